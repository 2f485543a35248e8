"""Small changes to a generator's network: attached, merged, taken back, stored, translated, and their controls."""

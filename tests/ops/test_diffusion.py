import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from torch.testing import assert_close

from ilora.config import Sampling
from ilora.generators import augmented
from ilora.ops import diffusion

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SAMPLED = {
    **SCHEDULE,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_zero_terminal_snr_is_that_of_diffusers_and_stays_itself() -> None:
    scheduler = DDIMScheduler(**SCHEDULE)
    found = diffusion.zero_terminal_snr(scheduler.alphas_cumprod)
    betas = rescale_zero_terminal_snr(scheduler.betas)
    assert_close(found.float(), (1 - betas).cumprod(0), atol=1e-5, rtol=0)
    assert (found[-1], found[0].float()) == (0, scheduler.alphas_cumprod[0])
    assert_close(diffusion.zero_terminal_snr(found), found)


def test_velocity_is_that_of_diffusers_and_leads_back() -> None:
    scheduler = DDIMScheduler(**SCHEDULE)
    clean, drawn, times = noise(3, 2, 4, 4), noise(3, 2, 4, 4, seed=1), torch.tensor([0, 400, 999])
    level = scheduler.alphas_cumprod[times][:, None, None, None]
    velocity = diffusion.velocity(clean, drawn, level)
    assert_close(velocity, scheduler.get_velocity(clean, drawn, times))
    noisy = diffusion.mix(clean, drawn, level)
    assert_close(noisy, scheduler.add_noise(clean, drawn, times))
    assert_close(diffusion.clean(noisy, velocity, level), clean, atol=1e-5, rtol=0)
    one = torch.ones(1, 1, 1, 1)
    assert diffusion.velocity(2 * one, 5 * one, 0.36).item() == pytest.approx(0.6 * 5 - 0.8 * 2)


def test_trailing_steps_begin_at_the_noisiest() -> None:
    assert diffusion.trailing(1, 1000) == [999]
    assert diffusion.trailing(4, 1000) == [999, 749, 499, 249]
    scheduler = DPMSolverMultistepScheduler(**SAMPLED)
    for passes in (7, 25, 50):
        scheduler.set_timesteps(passes)
        assert diffusion.trailing(passes, 1000) == scheduler.timesteps.tolist()


def answer(noisy: torch.Tensor, time: float) -> torch.Tensor:
    """A network whose output depends on all that it sees."""
    return 0.6 * noisy.roll(1, -1) + math.cos(0.01 * float(time)) * noisy.square().clamp(max=2)


@pytest.mark.parametrize(
    ("solver", "kind", "passes"),
    [
        ("ddim", DDIMScheduler, 1),
        ("ddim", DDIMScheduler, 10),
        ("ddim", DDIMScheduler, 50),
        ("dpm++", DPMSolverMultistepScheduler, 1),
        ("dpm++", DPMSolverMultistepScheduler, 7),
        ("dpm++", DPMSolverMultistepScheduler, 25),
    ],
)
def test_samples_are_those_of_diffusers(solver: str, kind: type, passes: int) -> None:
    scheduler = kind(**SAMPLED, **{"clip_sample": False} if kind is DDIMScheduler else {})
    scheduler.set_timesteps(passes)
    latent = noise(3, 4, 4)[None]
    for time in scheduler.timesteps:
        latent = scheduler.step(answer(latent, time), time, latent).prev_sample
    sampling = Sampling(passes=passes, solver=solver)
    like, levels = torch.zeros(1, 3, 4, 4), scheduler.alphas_cumprod.double()
    assert_close(augmented.sample(answer, like, sampling, levels.tolist()), latent, atol=1e-4, rtol=1e-4)
    levels[-1] = 0  # diffusers' DPM-Solver++ ends at 2^-24 instead, so that its logarithms are finite
    assert_close(augmented.sample(answer, like, sampling, levels.tolist()), latent, atol=5e-3, rtol=5e-3)


def test_a_second_order_step_by_hand() -> None:
    """With half log SNRs -1, 0, 1: D = x + (x - x') / 2, z' = (s'/s) z - a' (e^-1 - 1) D."""
    levels = [1 / (1 + math.exp(-2 * value)) for value in (-1, 0, 1)]
    one = torch.ones(1, 1, 1, 1)
    found = diffusion.advance(2 * one, 3 * one, one, levels)
    alpha, sigma = math.sqrt(levels[2]), math.sqrt(1 - levels[2])
    assert found.item() == pytest.approx(sigma / math.sqrt(0.5) * 2 - alpha * (math.exp(-1) - 1) * (3 + 1))
    assert diffusion.advance(2 * one, 3 * one, one, [0.2, 0.5, 1.0]).item() == 3.0  # to no noise: the estimate itself


def test_guidance_by_hand() -> None:
    full, picture, nothing = (torch.tensor([[[[value, -value]]]]) for value in (2.0, 1.0, 0.0))
    found = diffusion.guided(full, picture, nothing, text=3.0, image=1.0, rescale=0.7)  # 4 before, spread twice that
    assert_close(found, torch.tensor([[[[2.6, -2.6]]]]))
    found = diffusion.guided(full, picture, nothing + 1, text=1.0, image=2.0, rescale=0.0)
    assert_close(found, torch.tensor([[[[2.0, -4.0]]]]))
    other = noise(2, 3, 4, 4)
    assert_close(diffusion.guided(other, other + 1, other * 0, text=1.0, image=1.0, rescale=0.7), other)
    flat = torch.zeros(1, 1, 2, 2)
    assert diffusion.guided(flat, flat, flat, text=3.0, image=1.5, rescale=0.7).isfinite().all()


def test_guidance_takes_as_few_passes_as_it_needs() -> None:
    for weights, expected in (
        ({}, [{}]),
        ({"guidance": 3.0}, [{}, {"text": False}]),
        ({"image_guidance": 1.5}, [{}, {"text": False}, {"text": False, "picture": False}]),
    ):
        asked = []
        denoise = augmented.guided(
            lambda noisy, time, asked=asked, **left: asked.append(left) or noisy, Sampling(**weights)
        )
        denoise(torch.zeros(1, 1, 2, 2), 999)
        assert asked == expected

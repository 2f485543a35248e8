"""``python -m ilora`` is the command ``ilora``."""

from ilora.cli import main

main()

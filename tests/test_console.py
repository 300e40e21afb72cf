"""`pkdot` itself: each half is there only if what it needs is."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

WITHOUT_TORCH = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "yaml"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["pkdot", *ARGUMENTS]
import pkdot
pkdot.main()
"""


def run(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    code = script.replace("ARGUMENTS", repr(arguments))
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_the_training_half_its_commands_say_what_to_install() -> None:
    done = run(WITHOUT_TORCH, "train", "recipe.yaml", "--resume")

    assert done.returncode == 2
    assert "pip install '.[train]'" in done.stderr


def test_the_serving_half_works_without_torch() -> None:
    done = run(WITHOUT_TORCH, "bundle", "check", "nowhere")

    assert done.returncode == 1
    assert "nowhere" in done.stderr


def test_the_service_never_loads_torch_or_training() -> None:
    code = "import sys, service.app; print([m for m in sys.modules if m.split('.')[0] in ('torch', 'training')])"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_no_command_at_all_is_wrong_use() -> None:
    assert run("import sys; sys.argv = ['pkdot', *ARGUMENTS]; import pkdot; pkdot.main()").returncode == 2

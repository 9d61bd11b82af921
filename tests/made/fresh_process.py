"""What a fresh process imports."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported_after(code, *blocked):
    """Run code in a fresh process in which importing a blocked package fails; return its loaded modules."""
    guard = (
        "import sys\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked!r}: raise ImportError('blocked: ' + name, name=name)\n"
        "sys.meta_path.insert(0, Guard())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", guard + code + "\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return set(result.stdout.split())

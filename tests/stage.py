"""Runs commands and Python one after the other, each in a process of its own that begins with torch and PEFT loaded.

These two take several seconds to import, which every command of a page would spend anew. ``test_readme.py`` writes jobs
to standard input, a line of JSON each, and reads one exit code a line from standard output:

    {"folder": where it runs, "package": first of sys.path, "told": file for what it says,
     "words": ["ilora", "fit", ...]}, or instead of the words {"code": Python, "place": of it, for messages}
"""

import json
import os
import runpy
import sys
import traceback


def act(job: dict) -> int:
    """Do one job in this process, which ends with the code that is returned."""
    told = os.open(job["told"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(told, 1)
    os.dup2(told, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["folder"])
    sys.path.insert(0, job["package"])
    try:
        if "code" in job:
            exec(compile(job["code"], job["place"], "exec"), {"__name__": "__main__"})
        else:
            sys.argv = job["words"]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)  # what python -m does
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    import peft  # noqa: F401  (with torch)

    sys.path.pop(0)  # the folder of this file
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(act(json.loads(line)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

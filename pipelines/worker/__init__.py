"""One worker: a process (or a thread of one) that holds models, and a child of it that decodes.

    engine  --task-->  worker: files, models, working area  --order-->  child: decode, scan, CPU scorers
                              <--event--                               <--rows, questions--

The child (`child.py`) is a fresh interpreter of its own session: no terminal, no secrets in its environment, no file but what the worker
hands it as a descriptor or reads for it (`files.py`). It may crash, hang or take too much memory; the worker ends it, notes why, and
starts another (`decoder.py`). What it says is data and is parsed, never unpickled (`channel.py`).
"""

"""Whole jobs, each a file one can read aloud: they choose the engine and tie the rooms of `curate` together."""

if __name__ != "curate.pipelines":
    raise ImportError("import this folder as curate.pipelines: the name it has in the wheel too")

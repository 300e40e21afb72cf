"""Recordings of strangers are decoded here: in a process that can do nothing else, and that is killed afterwards.

`zygote` starts once, as a fresh program, and forks a `child` for each request; `parent` asks the child, and believes
nothing that it answers.
"""

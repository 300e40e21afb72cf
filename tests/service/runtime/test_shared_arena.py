"""Sessions on the CPU take their memory from one arena."""

from service.runtime.providers import IDENTITY, Providers, open_session


def test_every_session_on_the_cpu_uses_the_arena_of_the_process() -> None:
    sessions = [open_session(IDENTITY, Providers(("CPUExecutionProvider",)), intra_op_threads=1) for _ in range(2)]

    entries = [s.get_session_options().get_session_config_entry("session.use_env_allocators") for s in sessions]
    assert entries == ["1", "1"]

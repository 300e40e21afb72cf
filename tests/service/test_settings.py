import re
import tempfile
from pathlib import Path

import pytest

from service.environment import described_settings, read_settings, settings_table
from service.settings import Settings, SettingsError

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_a_variable_sets_the_field_of_its_name() -> None:
    settings, warnings = read_settings({"PKDOT_BUNDLES": "b", "PKDOT_MAX_UPLOAD_BYTES": "1000", "HOME": "/"})

    assert (settings.bundles, settings.max_upload_bytes, warnings) == (Path("b"), 1000, [])


def test_an_option_goes_before_its_variable() -> None:
    settings, _ = read_settings({"PKDOT_BUNDLES": "b", "PKDOT_PORT": "9000"}, port=9001, host=None)

    assert (settings.port, settings.host) == (9001, "127.0.0.1")


def test_the_limits_have_the_contracts_defaults() -> None:
    settings = Settings(bundles=Path("b"))

    assert settings.max_upload_bytes == 512 * 1024 * 1024
    assert settings.max_duration_s == 900
    assert settings.max_pixels == 4096 * 4096
    assert settings.max_frames == 36_000


def test_an_unknown_variable_is_a_warning_that_names_the_nearest() -> None:
    _, warnings = read_settings({"PKDOT_BUNDLES": "b", "PKDOT_MAX_UPLOAD_BYTE": "1"})

    (warning,) = warnings
    assert "PKDOT_MAX_UPLOAD_BYTE " in warning
    assert "PKDOT_MAX_UPLOAD_BYTES?" in warning


def test_what_kubernetes_sets_for_a_service_of_this_name_is_ignored() -> None:
    kubernetes = {
        "PKDOT_PORT": "tcp://10.0.0.1:8000",
        "PKDOT_PORT_8000_TCP_ADDR": "10.0.0.1",
        "PKDOT_SERVICE_HOST": "10.0.0.1",
    }
    settings, warnings = read_settings({"PKDOT_BUNDLES": "b"} | kubernetes)

    assert (settings.port, warnings) == (8000, [])


def test_providers_are_separated_by_commas() -> None:
    settings, _ = read_settings(
        {"PKDOT_BUNDLES": "b", "PKDOT_PROVIDERS": "CUDAExecutionProvider, CPUExecutionProvider"}
    )

    assert settings.providers == ("CUDAExecutionProvider", "CPUExecutionProvider")


def test_devices_are_separated_by_commas() -> None:
    settings, _ = read_settings({"PKDOT_BUNDLES": "b", "PKDOT_DEVICES": "0, 2", "PKDOT_CACHE_DIR": ""})

    assert (settings.devices, settings.cache_dir) == ((0, 2), None)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "PKDOT_BUNDLES"),
        ({"PKDOT_BUNDLES": "b", "PKDOT_DEVICES": ""}, "PKDOT_DEVICES"),
        ({"PKDOT_BUNDLES": "b", "PKDOT_CUDNN_SEARCH": "FASTEST"}, "PKDOT_CUDNN_SEARCH"),
        ({"PKDOT_BUNDLES": "b", "PKDOT_PORT": "99999"}, "PKDOT_PORT"),
        ({"PKDOT_BUNDLES": "b", "PKDOT_MAX_DURATION_S": "nan"}, "PKDOT_MAX_DURATION_S"),
        ({"PKDOT_BUNDLES": "b", "PKDOT_MAX_FRAMES": "many"}, "PKDOT_MAX_FRAMES"),
        ({"PKDOT_BUNDLES": "b", "PKDOT_MAX_DECODER_MEMORY_BYTES": str(2**63 - 1)}, "PKDOT_MAX_DECODER_MEMORY_BYTES"),
        ({"PKDOT_BUNDLES": "b", "PKDOT_MAX_PIXELS": str(10**15)}, "PKDOT_MAX_PIXELS"),
    ],
)
def test_impossible_values_are_refused_by_name(environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        read_settings(environment)


def test_a_usual_time_beyond_the_longest_is_refused_where_somebody_asked_for_it() -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({"PKDOT_BUNDLES": "b", "PKDOT_REQUEST_TIMEOUT_S": "900"})

    assert str(refused.value) == (
        "PKDOT_REQUEST_TIMEOUT_S (900) must be at most PKDOT_MAX_REQUEST_TIMEOUT_S (600); raise that too"
    )
    assert read_settings({"PKDOT_BUNDLES": "b", "PKDOT_MAX_REQUEST_TIMEOUT_S": "60"}).settings.request_timeout_s == 120


def test_a_system_without_a_folder_for_temporary_files_is_no_obstacle_to_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)

    assert read_settings({"PKDOT_BUNDLES": "b"}).settings.spool_dir == Path("/tmp")
    assert "PKDOT_SPOOL_DIR (/tmp)" in settings_table()


def test_the_help_lists_every_setting() -> None:
    table = settings_table()

    assert all(f"PKDOT_{name.upper()} (" in table for name in Settings.model_fields)


def test_the_page_of_settings_lists_what_the_help_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")  # else where TMPDIR says
    found = re.findall(r"^\| `(\w+)` \| `?(.*?)`? \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert found == [tuple(one) for one in described_settings()]
    assert settings_table() == "\n".join(f"  {name} ({default}): {text}" for name, default, text in found)


@pytest.mark.parametrize(
    "variable",
    ["HOST", "SPOOL_DIR", "CUDNN_SEARCH", "SANDBOX", "LOG_FORMAT", "OTLP_ENDPOINT", "PROVIDERS", "CANARY", "CACHE_DIR"],
)
def test_an_empty_text_is_as_if_unset(variable: str) -> None:
    assert read_settings({"PKDOT_BUNDLES": "b", f"PKDOT_{variable}": ""}) == read_settings({"PKDOT_BUNDLES": "b"})


def test_no_folder_of_bundles_is_not_the_working_directory() -> None:
    with pytest.raises(SettingsError, match=r"^PKDOT_BUNDLES is not set; name a folder of bundles"):
        read_settings({"PKDOT_BUNDLES": ""})


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "PKDOT_ALLOWED_HOSTS",
            "ward.example,*",
            "PKDOT_ALLOWED_HOSTS='*' is not possible: expected names without scheme and port, as ward.example, "
            "*.clinic.example, 10.0.0.5 or [::1]; leave it empty for any",
        ),
        (
            "PKDOT_ALLOWED_ORIGINS",
            "https://x/",
            "PKDOT_ALLOWED_ORIGINS='https://x/' is not possible: expected origins, a scheme and a host without a path "
            "or a final slash, as https://desk.example or http://10.0.0.5:8080",
        ),
        (
            "PKDOT_OTLP_ENDPOINT",
            "collector:4318",
            "PKDOT_OTLP_ENDPOINT='collector:4318' is not possible: expected an address, as http://collector:4318",
        ),
        (
            "PKDOT_CANARY",
            "x",
            "PKDOT_CANARY='x' is not possible: expected FOLDER@SHARE, for example /bundles-next@0.1",
        ),
    ],
)
def test_what_is_expected_is_said_in_words(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({"PKDOT_BUNDLES": "b", variable: value})

    assert str(refused.value) == sentence


def test_variables_of_the_other_half_are_known_and_without_effect():
    assert read_settings({"PKDOT_BUNDLES": "b", "PKDOT_CACHE_DIR": "c", "PKDOT_FACE_WHEEL_DIR": "w"}).warnings == []

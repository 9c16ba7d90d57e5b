import pytest

from hostler.repository.environments.pip_output import failed_requirement, last_errors, step_of


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("Collecting numpy<2,>=1.20 (from -r x.txt (line 1))", "collecting numpy<2,>=1.20"),
        ("  Downloading numpy-2.4.6-cp311-cp311-linux_x86_64.whl (16.9 MB)",
         "downloading numpy-2.4.6-cp311-cp311-linux_x86_64.whl 16.9 MB"),
        ("  Downloading https://x/y/a-1.tar.gz (1 kB)", "downloading a-1.tar.gz 1 kB"),
        ("Processing /m/1/greeting-1.0-py3-none-any.whl",
         "processing greeting-1.0-py3-none-any.whl"),
        ("  Installing build dependencies: started", "installing build dependencies"),
        ("  Building wheel for lgpio (pyproject.toml): started", "building lgpio"),
        ("Installing collected packages: a, b", "installing a, b"),
        ("  Using cached a.whl (1 kB)", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_pip_does_now(line, step):
    assert step_of(line) == step


def test_a_step_is_short():
    assert len(step_of("Installing collected packages: " + "abc, " * 500)) <= 160


@pytest.mark.parametrize(
    ("lines", "requirement"),
    [
        (
            ["Collecting a", "ERROR: Could not find a version that satisfies the requirement "
             "nosuch==9 (from versions: none)",
             "ERROR: No matching distribution found for nosuch==9"],
            "nosuch==9",
        ),
        (["ERROR: Invalid requirement: 'a b' (from line 3 of r.txt)"], "a b"),
        (["ERROR: Invalid requirement: 'a b': Expected end or semicolon (from line 3"], "a b"),
        (
            ["ERROR: Cannot install a==1 and b==2 because these package versions have conflicting "
             "dependencies."],
            "a==1 and b==2",
        ),
        (
            ["WARNING: Requirement '/m/x.whl' looks like a filename, but the file does not exist",
             "Processing /m/x.whl", "ERROR: Could not install packages due to an OSError"],
            "/m/x.whl",
        ),
        (["ERROR: x-1-cp27-none-any.whl is not a supported wheel on this platform."],
         "x-1-cp27-none-any.whl"),
        (["Collecting a", "Collecting b", "  error: subprocess-exited-with-error"], "b"),
        (["ERROR: unknown"], ""),
        ([], ""),
    ],
)  # fmt: skip
def test_which_requirement_failed(lines, requirement):
    assert failed_requirement(lines) == requirement


def test_pips_own_words_are_one_line():
    lines = ["Collecting a", "ERROR: one", "noise", "  ERROR: two"]
    assert last_errors(lines) == "ERROR: one | ERROR: two"
    assert last_errors(["a", "", "b"]) == "a | b"
    assert last_errors([]) == ""

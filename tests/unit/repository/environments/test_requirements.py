import pytest

from hostler.core import Code, HostlerError
from hostler.repository.environments.requirements import FILES_MAX, LINES_MAX, Line, flatten

TOP = "/m/1/requirements.txt"


def flat(text, **others):
    files = {TOP: text, **{f"/m/{k}": v for k, v in others.items()}}

    def read(path):
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    return flatten("m", TOP, "/m", read)


def texts(lines):
    return [line.text for line in lines]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("\n# only a comment\n   \n", []),
        ("a==1   # why\r\n  b[x,y]>=2 ;  python_version<'3.12'\n",
         ["a==1", "b[x,y]>=2 ; python_version<'3.12'"]),
        ("a \\\n  --hash=sha256:1 \\\n  --hash=sha256:2\nb",
         ["a --hash=sha256:1 --hash=sha256:2", "b"]),
        ("a \\", ["a"]),
        ("a#b", ["a#b"]),
        ("--index-url https://x/#y\n--no-index", ["--index-url https://x/#y", "--no-index"]),
        ("-f wheels", ["--find-links /m/1/wheels"]),
        ("--find-links=/opt/wheels", ["--find-links /opt/wheels"]),
        ("-f 'my wheels'", ["--find-links '/m/1/my wheels'"]),
        ("-f https://x/y", ["-f https://x/y"]),
        ("a @ https://x/a.zip", ["a @ https://x/a.zip"]),
        ("git+https://x/y.git@v1#egg=a", ["git+https://x/y.git@v1#egg=a"]),
        ("./x-1.whl[e] ; sys_platform=='linux'", ["/m/1/x-1.whl[e] ; sys_platform=='linux'"]),
        ("x-1.whl", ["/m/1/x-1.whl"]),
        ("../lib/x.tar.gz", ["/m/lib/x.tar.gz"]),
        ("/opt/x.whl", ["/opt/x.whl"]),
        ("a @ file:///opt/x%20y.whl", ["a @ file:///opt/x y.whl"]),
    ],
)  # fmt: skip
def test_lines_as_pip_gets_them(text, lines):
    assert texts(flat(text).lines) == lines


def test_includes_are_in_place_and_relative_to_the_file_that_states_them():
    found = flat(
        "a\n-r more/base.txt\n-c ../limits.txt\nb\n--requirement=more/base.txt",
        **{
            "1/more/base.txt": "-rdeeper.txt\n-f wheels\nx.whl",
            "1/more/deeper.txt": "-r base.txt\nc",
            "limits.txt": "numpy<2\n-r 1/more/deeper.txt",
        },
    )
    links = "--find-links /m/1/more/wheels"
    assert texts(found.lines) == ["a", "c", links, "/m/1/x.whl", links, "b"]
    assert texts(found.constraints)[:2] == ["numpy<2", "/m/1/x.whl"]
    assert found.files == ("/m/1/x.whl",)


def test_numpy_gets_the_options_but_not_the_hashes():
    found = flat("--index-url https://x\n--require-hashes\na")
    assert texts(found.options) == ["--index-url https://x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\n-r ../../other.txt", (f"{TOP}:2", "'../../other.txt' leaves the package '/m'")),
        ("-r /etc/passwd", ("leaves the package",)),
        ("-c https://x/c.txt", ("no URLs",)),
        ("-f ../../wheels", ("leaves the package",)),
        ("../../x.whl", ("leaves the package",)),
        ("./src", ("source folder", "pip wheel --no-deps ./src")),
        ("-e ./src", ("editable", "pip wheel --no-deps ./src")),
        ("\n".join(f"a{i}" for i in range(LINES_MAX + 1)), (str(LINES_MAX),)),
    ],
)
def test_what_is_refused_names_file_and_line(text, words):
    with pytest.raises(HostlerError) as caught:
        flat(text)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "model 'm'" in caught.value.message
    for word in words:
        assert word in caught.value.message


def test_endless_includes_end():
    files = {f"1/{i}.txt": f"-r {i + 1}.txt" for i in range(FILES_MAX + 1)}
    with pytest.raises(HostlerError, match=f"more than {FILES_MAX} files"):
        flat("-r 0.txt", **files)


def test_a_local_file_counts_by_its_content_and_not_by_its_place():
    first, second = Line("/m/x.whl[e]", "/m/x.whl"), Line("/n/x.whl[e]", "/n/x.whl")
    same = {"/m/x.whl": "1", "/n/x.whl": "1"}
    assert first.identity(same) == second.identity(same) == "1/x.whl[e]"
    assert first.identity({"/m/x.whl": "2"}) != first.identity(same)

"""Every marked message is translated, with the same numbers in it, and English stays as it is."""

from __future__ import annotations

import ast
import re
import shutil
import string
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from gettext import GNUTranslations
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.documents import ROOT
from tests.findings.networks import LeNet, Through, UNet
from torch import nn

import eyeshot
from eyeshot import cli, language
from eyeshot.findings import Finding, find
from eyeshot.frontends.repair import trace
from eyeshot.language import COUNTED

PACKAGE = ROOT / "src" / "eyeshot"
PO = PACKAGE / "language" / "zh.po"
CATALOG = language.Catalog(PO.read_text("utf-8"))
_MARKS = {"tr": 1, "ntr": 2, "mark": 1, "plural": 2}
_HAN = re.compile(r"[\u4e00-\u9fff]")


def _calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        text, own = path.read_text(), path.parent == PO.parent
        if not own and "from eyeshot.language import" not in text:
            continue
        tree = ast.parse(text)
        imported = (
            {*_MARKS}
            if own
            else {
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "eyeshot.language"
                for alias in node.names
            }
        )
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id=name)) if name in imported & _MARKS.keys():
                    yield path, node


def _marked() -> dict[str, set[str]]:
    """Each message in the source, and all texts that its translation stands for."""
    found: dict[str, set[str]] = {}
    for _, call in _calls():
        assert isinstance(call.func, ast.Name)
        arguments = call.args[: _MARKS[call.func.id]]
        texts = [str(one.value) for one in arguments if isinstance(one, ast.Constant)]
        if texts:
            found.setdefault(texts[0], set()).update(texts)
    return found


MARKED = _marked()


def test_there_is_a_translation_of_every_marked_message_and_of_no_other() -> None:
    assert len(MARKED) > 200
    known = CATALOG.messages.keys() | CATALOG.waiting
    missing, superfluous = MARKED.keys() - known, known - MARKED.keys()
    assert not missing, f"run make messages, and translate or mark as fuzzy: {sorted(missing)}"
    assert not superfluous, f"run make messages: {sorted(superfluous)}"


def _fields(text: str) -> set[tuple[str, str]]:
    return {(name, spec or "") for _, name, spec, _ in string.Formatter().parse(text) if name}


def test_placeholders_agree() -> None:
    for message, texts in MARKED.items():
        if message in CATALOG.waiting:
            continue
        translated = _fields(CATALOG.gettext(message))
        assert all(_fields(text) == translated for text in texts), message


def test_no_message_is_put_together_where_it_cannot_be_found() -> None:
    """``tr(f"…")`` and ``tr("…" + x)`` would never be translated."""
    for path, call in _calls():
        broken = [one for one in call.args if isinstance(one, (ast.JoinedStr, ast.BinOp))]
        assert not broken, f"{path}:{call.lineno}"


def test_what_findings_and_tables_count_is_translated() -> None:
    words = set()
    for room in ("findings", "inspection", "explanation"):
        for path in (PACKAGE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=ast.Name(id="counted"), args=[_, ast.Constant(value=word)]):
                        words.add(word)
    assert "bias value" in words
    assert words <= COUNTED.keys()


@pytest.mark.skipif(shutil.which("msgfmt") is None, reason="needs GNU gettext")
def test_the_reader_agrees_with_gnu_gettext(tmp_path: Path) -> None:
    compiled = tmp_path / "zh.mo"
    subprocess.run(["msgfmt", "--check", "-o", str(compiled), str(PO)], check=True)
    with compiled.open("rb") as file:
        theirs = GNUTranslations(file)
    for message, texts in MARKED.items():
        assert CATALOG.gettext(message) == theirs.gettext(message)
        for n in (1, 2):
            if len(texts) > 1:
                one, many = message, next(iter(texts - {message}))
                assert CATALOG.ngettext(one, many, n) == theirs.ngettext(one, many, n)


def test_a_catalog_reads_what_po_files_hold() -> None:
    catalog = language.Catalog(
        """
msgid ""
msgstr ""
"Language: zh\\n"

# a comment
#: somewhere.py:3
msgid "one"
"\\n\\"two\\""
msgstr "一"
"\\n\\"二\\""

#, fuzzy, python-brace-format
msgid "nearly"
msgstr "差不多"

msgid "empty"
msgstr ""

msgid "{n} map"
msgid_plural "{n} maps"
msgstr[0] "{n} 张图"

#~ msgid "gone"
#~ msgstr "没有了"
"""
    )
    assert catalog.messages == {'one\n"two"': '一\n"二"', "{n} map": "{n} 张图"}
    assert catalog.waiting == {"nearly"}
    assert catalog.gettext("nearly") == "nearly"
    assert [catalog.ngettext("{n} map", "{n} maps", n) for n in (1, 2)] == ["{n} 张图"] * 2
    assert [catalog.ngettext("a cow", "cows", n) for n in (0, 1, 2)] == ["cows", "a cow", "cows"]


def test_a_language_is_spoken_within_its_block_alone() -> None:
    with language.speaking("zh_CN.UTF-8"):
        assert language.spoken() == "zh"
        assert language.tr("stride") == "步幅"
        assert language.ntr("{n:,} channel", "{n:,} channels", 1200) == " 1,200 个通道"
    assert language.spoken() == "en"
    assert language.tr("stride") == "stride"
    assert language.tr("a {brace} and no values") == "a {brace} and no values"
    with pytest.raises(eyeshot.errors.UnknownName, match="unknown language 'fr'"):
        language.speak("fr")
    assert language.preferred({}) is None
    assert language.preferred({"EYESHOT_LANG": "zh-CN"}) == "zh"


class Shortcut(nn.Module):
    """A block whose shortcut lacks its stride and half of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.shortcut = nn.Conv2d(3, 16, 1)
        self.up = nn.ConvTranspose2d(32, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.conv1(x).relu()) + self.shortcut(x)
        answer: torch.Tensor = self.norm(self.up(x))
        return answer


def _repeated() -> nn.Module:
    conv, norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
    with torch.no_grad():
        conv.weight[1:3] = conv.weight[0]
        conv.weight[5] = 0
        norm.weight[4] = 0
    return nn.Sequential(conv, norm, nn.ReLU())


FAULTY: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: UNet(joined=32), (3, 32, 32)),
    (UNet, (3, 33, 32)),
    (Shortcut, (3, 33, 32)),
    (LeNet, (1, 28, 28)),
    (LeNet, (1, 48, 48)),
    (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 8, 9)), (3, 12, 12)),
    (lambda: Through(8, nn.Conv2d(9, 9, 3, groups=3)), (3, 8, 8)),
    (lambda: Through(8, nn.LayerNorm([8, 4, 4])), (3, 8, 8)),
    (lambda: Through(7, nn.PixelShuffle(2)), (3, 8, 8)),
    (lambda: Through(8, nn.Linear(100, 2)), (3, 8, 8)),
    (lambda: nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(9)]), (1, 8, 8)),
    (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1)), (1, 20, 20)),
    (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Dropout()).train(), (1, 20, 21)),
    (_repeated, (3, 9, 9)),
]


def _found(net: nn.Module, size: tuple[int, ...], name: str) -> list[Finding]:
    with language.speaking(name):
        graph, mismatches = trace(net, size)
        return find(graph, net, mismatches)


def _numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text))


@pytest.mark.parametrize("number", range(len(FAULTY)))
def test_findings_in_chinese_have_the_numbers_of_the_english_ones(number: int) -> None:
    torch.manual_seed(0)
    build, size = FAULTY[number]
    net = build() if number == len(FAULTY) - 2 else build().eval()
    english, chinese = (_found(net, size, name) for name in language.LANGUAGES)
    assert len(english) == len(chinese) > 0
    for ours, theirs in zip(english, chinese, strict=True):
        assert (ours.severity, ours.layer, ours.title) == (
            theirs.severity,
            theirs.layer,
            theirs.title,
        )
        assert _numbers(ours.cause) == _numbers(theirs.cause)
        assert _numbers(ours.cure) == _numbers(theirs.cure)
        for text in (theirs.cause, theirs.cure):
            assert not re.search("[a-z]{2,} [a-z]{2,}", text), "English is left"
        assert _HAN.search(theirs.cause)
        with language.speaking("zh"):
            assert _HAN.search(str(theirs).partition("：")[0])


def test_inspect_prints_chinese_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(\n"
        "        nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.ConvTranspose2d(8, 4, 3, stride=2))\n"
    )
    (tmp_path / "mine.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    said = []
    for more in ([], ["--lang", "zh"], ["--lang", "en"]):
        assert cli.main(["inspect", "mine.py:net", "--size", "3x33x32", *more]) == 0
        said.append(capsys.readouterr().out)
    monkeypatch.setenv("EYESHOT_LANG", "zh_CN.UTF-8")
    assert cli.main(["inspect", "mine.py:net", "--size", "3x33x32"]) == 0
    assert capsys.readouterr().out == said[1]
    english, chinese, again = said
    assert english == again, "the language ends with the command"
    assert not _HAN.search(english)
    assert _numbers(english) == _numbers(chinese)
    for word in ("发现的问题", "警告：2：棋盘格：", "感受野", "可接受的尺寸", "丢掉了像素"):
        assert word in chinese
    assert cli.main(["inspect", "mine.py:net", "--size", "3x33x32", "-o", "net.html"]) == 0
    page = re.sub("<style>.*?</style>|<[^>]*>", "", Path("net.html").read_text(), flags=re.DOTALL)
    assert "警告，位于 2：棋盘格" in page
    for heading in ("Findings", "field", "stride", "total", "Layers", "digits", "parameters"):
        assert heading not in page


def test_explain_prints_chinese_with_the_same_sums(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["conv"], ["transpose"], ["pool", "--padding", "1"], ["bilinear"]):
        assert cli.main(["explain", *words]) == 0
        english = capsys.readouterr().out
        assert cli.main(["explain", *words, "--lang", "zh"]) == 0
        chinese = capsys.readouterr().out
        assert _numbers(english) == _numbers(chinese)
        assert "第 1 步，共 " in chinese
        assert "step" not in chinese


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run", "eyeshot: 缺少参数 'NET'；例如：eyeshot run net.py:UNet slide.tif -o mask.tif"),
        (
            "run mine.py:net a.npy",
            "eyeshot: 没有给出输出文件；用 -o 给出文件名，或者用 --plan 只看计划",
        ),
        (
            "inspect mine.py",
            "eyeshot: mine.py：没有指明其中的网络；请给出类或函数，例如 mine.py:net",
        ),
        ("inspect mine.py:nett", "eyeshot: 未知的名称（在 mine.py 里） 'nett'；是不是 'net'？"),
        ("see mine.py:net a.npy --layer 5", "eyeshot: 未知的层 '5'；可用的有：input, relu"),
        ("see mine.py:net b.npy", "eyeshot: b.npy：没有这个文件或文件夹；请检查路径"),
        ("explain noperation", "一种运算：conv, pool, transpose"),
        ("filter a.npy --kernel sobol", "eyeshot: 缺少选项"),
        ("run mine.py:net a.npy -o a.png", "PNG 只能存 1 到 4 个通道"),
        ("predict runs/none a.npy", "eyeshot: runs/none：没有这个运行文件夹"),
    ],
)
def test_frequent_errors_are_in_chinese(
    line: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\n\ndef net():\n    return nn.ReLU()\n")
    np.save(tmp_path / "a.npy", np.zeros((1, 8, 8), np.float32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EYESHOT_LANG", "zh")
    assert cli.main(line.split()) == 2
    assert message in capsys.readouterr().err
    monkeypatch.delenv("EYESHOT_LANG")
    assert cli.main(line.split()) == 2
    assert not _HAN.search(capsys.readouterr().err)


def test_a_run_prints_chinese_and_resumes_in_any_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\n\ndef net():\n    return nn.ReLU()\n")
    np.save(tmp_path / "a.npy", np.zeros((1, 8, 8), np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EYESHOT_LANG", "zh")
    assert cli.main(["run", "mine.py:net", "a.npy", "--plan"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("图像", "内存峰值", "横带", "等待"))
    assert cli.main(["run", "mine.py:net", "a.npy", "-o", "b.npy"]) == 0
    message = capsys.readouterr().err
    assert re.search(r"读作 1 个通道，每个 8 x 8：.*；uint8 样本除以 255\n", message)

    def stop(report: object) -> None:
        raise KeyboardInterrupt

    with language.speaking("zh"), pytest.raises(KeyboardInterrupt):
        eyeshot.run(nn.ReLU().eval(), "a.npy", "c.npy", band=2, progress=stop)
    assert not Path("c.npy").exists()
    eyeshot.run(nn.ReLU().eval(), "a.npy", "c.npy", band=2, resume=True)
    np.testing.assert_array_equal(np.load("c.npy"), np.load("b.npy"))


def test_an_unknown_language_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "conv", "--lang", "fr"]) == 2
    assert capsys.readouterr().err == "eyeshot: unknown language 'fr'; known: en, zh\n"
    monkeypatch.setenv("EYESHOT_LANG", "fr")
    assert cli.main(["explain", "conv"]) == 2
    assert "unknown language 'fr'" in capsys.readouterr().err

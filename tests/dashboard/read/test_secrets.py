import json

import pytest

from semiseg.arguments import mask_text
from semiseg.dashboard.report import write_report
from support.fake_runs import write_run

SECRET = "s3cr3t-value"


@pytest.mark.parametrize(
    "typed",
    [
        "logger.wandb.api_key={}", "+hub.token={}", "++hub_token={}", "db.password={}", "password='{}'",
        'storage.secret="{} x"', "data.access_key_id={}", "key={}", "WANDB_API_KEY={}", "token: {}", "storage=postgresql://me:{}@host/db",
    ],
)  # fmt: skip
def test_values_of_secret_keys_are_masked(typed):
    masked = mask_text(f"semiseg train {typed.format(SECRET)} seed=1")
    assert SECRET not in masked and "***" in masked and masked.endswith(" seed=1")


@pytest.mark.parametrize(
    "typed",
    [
        "monkey=3",
        "data.keyword_list=a",
        "max_steps=3",
        "model.tokenizer=x",
        "keys.x=1",
        "method.contrast.keys_per_class=3",
        "token_count=3",
        "key_dim=8",
        "monkey: 3",
    ],
)
def test_other_values_stay(typed):
    assert mask_text(f"semiseg train {typed}") == f"semiseg train {typed}"


def test_no_secret_reaches_any_file_of_the_report(tmp_path):
    typed = f"logger.wandb.api_key={SECRET}"
    folder = write_run(tmp_path, n_logged=2, overrides=[typed], suffix="ab", result={"error": f"bad {typed}"})
    raw = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(raw | {"command": f"semiseg train {typed}"}))
    report = write_report([tmp_path], tmp_path / "out" / "report.html")
    for path in report.html.parent.iterdir():
        assert SECRET not in path.read_text(), path
    assert "logger.wandb.api_key=***" in report.html.read_text()

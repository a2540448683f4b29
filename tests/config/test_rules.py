"""Rules between keys, and commands that were accepted, hung or ended in tracebacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from semiseg.config import compose_config, rules, without_hydra
from semiseg.config.check import check_overrides
from semiseg.config.settings import read_settings
from semiseg.config.validate import check_config
from semiseg.errors import InputError
from semiseg.runs.renamed import RENAMED

DPT = "model=dpt_dinov2_s crop_size=[28,28]"


@pytest.mark.parametrize(
    "line,message",
    [
        ("optim.lr=abc", "optim.lr=abc: allowed are numbers above 0"),
        ("method=unimatch method.conf_threshold=null", "method.conf_threshold=null: allowed are numbers from 0 to 1"),
        ("method=unimatch method.conf_threshold=1.5", "from 0 to 1"),
        ("method=unimatch method.conf_threshold=nan", "from 0 to 1"),
        ("method=unimatch method.strong_weight=-1", "method.strong_weight=-1"),
        ("method=unimatch method.cutmix_partner=x", "method.cutmix_partner=x: allowed: flip, other, same_image"),
        ("loss=ohem loss.min_kept=x", "loss.min_kept=x"),
        ("eval=center_crop eval.size=x", "eval.size=x"),
        ("method=null", "unknown method 'null'"),
        ("model=null", "unknown model 'null'"),
        ("experiment=null", "unknown experiment 'null'"),
        ("~method", "~method: a group cannot be removed"),
        ("~optim.lr", "optim needs the key 'lr'"),
        ("~study", "the key study is missing"),
        ("~loader", "the key loader is missing"),
        ("method=mean_teacher method.ema=null", "method.ema=null"),
        ("method=mean_teacher method.ema.decay=3", "method.ema.decay=3"),
        ("seed=1099511627776", "seed=1099511627776: allowed are whole numbers from 0 to 4294967295"),
        ("model.width=0", "model.width=0"),
        ("model.num_classes=9", "model.num_classes=9 cannot be set"),
        ("num_classes=99", "num_classes cannot be set"),
        ("choices.method=x", "choices.method cannot be set"),
        ("loader.num_workers=99999", "loader.num_workers=99999: allowed are whole numbers from 0 to 512"),
        ("optim.momentum=5", "optim.momentum=5"),
        ("optim.warmup_steps=-1", "optim.warmup_steps=-1"),
        ("optim.warmup_steps=600", "optim.warmup_steps=600: the run has 600 steps"),
        ("optim.min_lr=1", "optim.min_lr=1: expected at most the smallest learning rate"),
        ("transforms.scale=[2,0.5]", "transforms.scale=[2, 0.5]: expected the lower bound first"),
        ("crop_size=[1,1]", "crop_size=[1, 1]: the coarsest map of the model has one value per 16 pixels"),
        ("crop_size=true", "crop_size=true"),
        ("trainer.precision=64-true", "trainer.precision=64-true: did you mean '32-true'?"),
        ("batch.labeled=100000000000", "batch.labeled=100000000000"),
        ("batch.labeled=1000000000", "batch.labeled=1000000000 with crop_size=[64, 64] needs more than"),
        ("crop_size=65536", "crop_size=[65536, 65536] needs more than"),
        ("data.n_train=1000000000", "data.n_train=1000000000"),
        ("data.size=[60000,60000]", "data.size=[60000, 60000]"),
        ("eval=sliding eval.window=4000", "eval.window=4000: the images have [96, 96] pixels"),
        ("eval=tta eval@eval.base=sliding eval.base.window=4000", "eval.base.window=4000: the images have"),
        ("trainer.devices=1024", "trainer.devices=1024 needs more than"),
        (f"{DPT} eval=resize eval.multiple=16", "eval.multiple=16: expected multiples of 14, the patch of dinov2_s"),
        (f"{DPT} eval=resize eval.multiple=null eval.size=[90,120]", "eval.size=[90, 120]: expected multiples of 14"),
        ("model=dpt_dinov2_s crop_size=[8,28]", "at least 14 pixels"),
        ("max_steps=null", "max_steps=null and epochs=null: set one"),
        ("epochs=3 max_steps=5", "max_steps=5 and epochs=3: give one of them"),
        ("protocol.name=shapes", "protocol.name=shapes: expected DATA/NAME"),
        ("protocol.name=shapes/../x", "protocol.name=shapes/../x: expected DATA/NAME"),
        ("protocol.name=shapes/..", "protocol.name='..'"),
        ("study=..", "study='..'"),
        ("study=../x", "study='../x'"),
        ("study=/tmp/x", "study='/tmp/x'"),
        ("study=a\\b", "study="),
        ("study=.hidden", "study='.hidden'"),
        ("study=", "study"),
        (f"study={'x' * 101}", "at most 100 bytes"),
        ("data=folder data.root=d data.name=a/b", "data.name='a/b'"),
        ("logger=wandb logger.wandb.mode=bad", "logger.wandb.mode=bad: allowed: disabled, offline, online"),
        ("+logger.mine=3", "logger.mine=3: choose one of its options"),
        ("+foo=1", "unknown key 'foo'"),
        ("+method.foo=1", "unknown key 'method.foo'"),
        ("trainer.devices=1.0", "trainer.devices=1.0: allowed are whole numbers"),
        ("overwrite=1", "overwrite=1: allowed are true or false"),
        ("hydra.sweeper.retry_failed=x", "hydra.sweeper.retry_failed=x: allowed are true or false"),
        ("hydra.launcher.n_jobs=x", "hydra.launcher.n_jobs=x: allowed are whole numbers"),
        ("hydra/sweeper=optuna hydra.sweeper.n_trials=x", "hydra.sweeper.n_trials=x: allowed are whole numbers"),
        ("optim={lr:1}", "unknown optim"),
        ("model.width=[1]", "model.width=[1]"),
        ("crop_size={a:1}", "crop_size"),
        ("optim.lr=${nothing}", "nothing"),
        ("optim.lr=${max_steps", "cannot read the overrides"),
    ],
)  # fmt: skip
def test_wrong_values_are_one_line(line: str, message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as e:
        check_overrides(line.split(" "))
    assert message in str(e.value) and "\n" not in str(e.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "crop_size=64", "epochs=3", "data=voc data.root=d max_steps=3",
        "study=my_study-2.1 (final)", "study=5", "study=été", "optim.lr=1",
        "trainer.deterministic=true", "data=voc data.root=d/x max_steps=10", "optim.warmup_steps=599",
        "method=fixmatch_ema method.ema=null", "data=voc data.root=a,b", "batch.unlabeled=0",
        f"{DPT} eval=resize eval.multiple=28", "model=dpt_dinov2_s crop_size=[30,30]",
    ],
)  # fmt: skip
def test_right_values_pass(line: str) -> None:
    check_overrides([line] if line.startswith("study") else line.split(" "))


@pytest.mark.parametrize(
    "line,message",
    [
        ("optim.lr=0.1,abc", "optim.lr=abc"),
        ("optim.lr=choice(0.1,-1)", "optim.lr=-1"),
        ("optim.momentum=interval(0.5,5)", "optim.momentum=5"),
        ("batch.labeled=range(2,-2,-1)", "batch.labeled=0"),
        ("method=supervised,null", "unknown method 'null'"),
    ],
)
def test_every_value_of_a_sweep_is_checked_before_its_first_job(line: str, message: str) -> None:
    with pytest.raises(InputError) as e:
        check_overrides([line])
    assert message in str(e.value)


def test_one_number_is_a_square() -> None:
    one, two = compose_config(["crop_size=64"]), compose_config(["crop_size=[64,64]"])
    assert one == two and read_settings(one).crop_size == (64, 64)


def test_a_machine_with_more_memory_takes_more(monkeypatch) -> None:
    cfg = compose_config(["batch.labeled=1000000"])
    with pytest.raises(InputError, match="needs more than 76 GB"):
        monkeypatch.setattr(rules, "physical_memory", lambda: 64 * 2**30)
        check_config(cfg)
    monkeypatch.setattr(rules, "physical_memory", lambda: 512 * 2**30)
    check_config(cfg)


@pytest.mark.parametrize("group,old", [(g, o) for g, names in RENAMED.items() for o in names])
def test_an_old_name_names_the_new_one(group: str, old: str) -> None:
    with pytest.raises(InputError, match=f"{group}={old} is now named {group}={RENAMED[group][old]}"):
        check_overrides([f"{group}={old}"])


def test_a_mistake_is_told_without_torch() -> None:
    code = (
        "import sys\nfrom semiseg.config.check import check_overrides\n"
        "try: check_overrides(['method=unimatch', 'method.conf_threshold=abc'])\n"
        "except ValueError as e: print(e, sorted({'torch', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "method.conf_threshold=abc: allowed are numbers from 0 to 1 []\n"


def test_epochs_of_a_command_replace_the_steps_of_its_protocol() -> None:
    """Hydra hands a job its configuration without Hydra's own node."""
    composed = compose_config(["epochs=3"])
    assert (composed.max_steps, composed.epochs) == (None, 3)
    hydra = OmegaConf.create({"overrides": {"task": ["epochs=3"]}, "runtime": {"choices": {"data": "shapes"}}})
    handed = compose_config()
    handed.epochs = 3
    job = without_hydra(handed, hydra)
    assert (job.max_steps, job.epochs) == (None, 3)
    hydra.overrides.task.append("max_steps=7")
    assert without_hydra(compose_config(["max_steps=7"]), hydra).max_steps == 7

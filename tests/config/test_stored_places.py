"""A stored configuration may be somebody else's: it does not decide where files are written."""

from __future__ import annotations

from pathlib import Path

from semiseg.config import compose_config
from semiseg.config.settings import stored_settings
from semiseg.config.stored import plain


def test_masks_are_not_kept_where_a_stored_configuration_says(tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    config = plain(compose_config(["data=voc", f"data.root={tmp_path}", f"data.mask_cache={theirs}"]))
    assert config["data"]["mask_cache"] == str(theirs)
    assert stored_settings(config).stored["data"]["mask_cache"] is None
    asked = stored_settings(config, [f"data.mask_cache={mine}"])
    assert asked.stored["data"]["mask_cache"] == str(mine)
    assert not theirs.exists()

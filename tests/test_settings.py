"""pipeline.yaml and the flags, made into one value."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_ami.errors import UsageError
from gpu_ami.options import Options
from gpu_ami.settings import EMBEDDED, load, parse, schema

REPOSITORY = Path(__file__).parents[1]


def _load(tmp_path: Path, content: str | bytes, options: Options | None = None) -> object:
    file = tmp_path / "pipeline.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return load(file, options or Options())


def test_the_committed_file_is_the_embedded_default() -> None:
    """A newcomer with and without pipeline.yaml must get the same pipeline."""
    assert load(REPOSITORY / "pipeline.yaml", Options()) == EMBEDDED


def test_flags_beat_the_file(tmp_path: Path) -> None:
    """A region on the command line is the last word."""
    file = tmp_path / "pipeline.yaml"
    file.write_text("region: eu-west-1\nprofile: a\n")

    settings = load(file, Options(region="us-east-1", profile="b"))

    assert (settings.region, settings.profile) == ("us-east-1", "b")


def test_a_byte_order_mark_is_harmless(tmp_path: Path) -> None:
    """Windows editors write one."""
    assert _load(tmp_path, b"\xef\xbb\xbfregion: ap-northeast-2\n") == EMBEDDED


def test_the_sandbox_needs_no_file(tmp_path: Path) -> None:
    """The first command of a newcomer works without writing anything."""
    assert load(tmp_path / "pipeline.yaml", Options(), is_required=False) == EMBEDDED


def test_aws_needs_the_file(tmp_path: Path) -> None:
    """On AWS nobody guesses a region."""
    with pytest.raises(UsageError, match=r"pipeline\.yaml does not exist.*--sandbox"):
        load(tmp_path / "pipeline.yaml", Options())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("region: ap-northeast-2\nregoin: x\n", r"unknown key 'regoin': known keys are .*region"),
        ("region: ap-northeast-2\ncleanup: {older: 3}\n", r"unknown key 'older' in cleanup: known keys are older_than"),
        ("region: 5\n", r"region is 5"),
        ("region: Seoul\n", r"region is 'Seoul'"),
        ("region: |\n  eu-west-1\n", r"region is 'eu-west-1\\n', expected text matching regex '\^.*\$'"),
        ("region: eu-west-1\nhandover:\n  variable: >\n    gpu_ami_id\n", r"variable is 'gpu_ami_id\\n'"),
        ("account: null\n", r"missing required field `region`"),
        ("region: ap-northeast-2\naccount: 123456789012\n", r"account is 123456789012"),
        ("region: ap-northeast-2\ncleanup: {keep: 0}\n", r"cleanup.keep is 0"),
        ("region: ap-northeast-2\ncleanup: {keep: three}\n", r"cleanup.keep is 'three'"),
        ("region: ap-northeast-2\nhandover: [a]\n", r"handover is \['a'\]"),
        ("region: ap-northeast-2\nverify: {before: later}\n", r"verify\.before is 'later'"),
        ("region: ap-northeast-2\npromotion: {bench: on}\n", r"promotion\.bench is on"),
        ("region: ap-northeast-2\npromotion: {bench: sometimes}\n", r"promotion\.bench is 'sometimes'"),
        ("region: ap-northeast-2\npromotion: {target_s: 0}\n", r"promotion\.target_s is 0"),
        ("region: ap-northeast-2\npromotion: {max_regression: -0.1}\n", r"promotion\.max_regression is -0\.1"),
        ("region: ap-northeast-2\nverify: {after: apply}\n", r"unknown key 'after' in verify"),
        ("region: ap-northeast-2\nverify: {instance_types: [g5]}\n", r"verify\.instance_types\[0\] is 'g5'"),
        ("region: ap-northeast-2\nverify: {instance_types: g5.xlarge}\n", r"verify\.instance_types is 'g5\.xlarge'"),
        ("region: ap-northeast-2\nverify: {instance_profile: a/b}\n", r"verify\.instance_profile is 'a/b'"),
        (
            "region: ap-northeast-2\ncost: {inputs: {a: 1, pull_s: x}}\n",
            r"cost\.inputs\.pull_s is 'x', expected a number",
        ),
        ("region: ap-northeast-2\ncost: {inputs: {5: 1}}\n", r"yaml: cost\.inputs has the key 5, which is no text"),
        ("region: ap-northeast-2\n5: 1\n", r"yaml has the key 5, which is no text"),
        ("region: ap-northeast-2\ncleanup: {regions: [us-east-1, 5]}\n", r"cleanup\.regions\[1\] is 5, expected text"),
        (
            "region: ap-northeast-2\naccount: 123456789012\n",
            r"expected text or null, got a whole number: put it in quo",
        ),
        ("region: ap-northeast-2\naccount: 012345670123\n", r"account is 012345670123, .*: put it in quotes\.$"),
        ("x: &x {profile: 5}\n<<: *x\nregion: us-east-1\n", r"unknown key 'x'|profile is 5"),
        ("region: ap-northeast-2\ncost:\n", r"cost is null, expected keys with values"),
        ("region: ap-northeast-2\ncleanup: {older_than: banana}\n", r"yaml: cleanup\.older_than 'banana' is not a dur"),
        ("region: ap-northeast-2\ncleanup: {older_than: 99999d}\n", r"yaml: cleanup\.older_than '99999d' is longer"),
        ("region: ap-northeast-2\nfamily: a1\nfamily: b2\n", r"has the key 'family' twice, in lines 2 and 3: keep one"),
        ("- region\n", r"holds a list"),
        ("", r"holds nothing"),
        ("region: [unclosed\n", r"line 2 is not YAML"),
        ("region: !!python/object/apply:os.system [id]\n", r"is not YAML"),
        ("[" * 100_000, r"nested too deeply|is not YAML"),
        (b"region: \xff\xfe\n", r"not UTF-8"),
        ("# " + "x" * (10 * 1024 * 1024), r"larger than 1 MiB"),
    ],
)
def test_bad_settings_are_refused_with_the_value(tmp_path: Path, content: str | bytes, problem: str) -> None:
    """Each line names what is wrong, so that nobody has to open the code."""
    with pytest.raises(UsageError, match=problem) as caught:
        _load(tmp_path, content)

    assert "\n" not in str(caught.value)


def test_a_bad_region_flag_is_refused() -> None:
    """A typed city or zone would only fail deep inside AWS."""
    with pytest.raises(UsageError, match="'ap-northeast-2a'"):
        load(REPOSITORY / "pipeline.yaml", Options(region="ap-northeast-2a"))


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    """The error says what the system said, not a traceback."""
    (tmp_path / "pipeline.yaml").mkdir()

    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "pipeline.yaml", Options())


def test_the_editors_schema_is_current() -> None:
    """pipeline.schema.json is generated; `python -m gpu_ami.settings` rewrites it."""
    import json

    committed = json.loads((REPOSITORY / "pipeline.schema.json").read_text())

    assert committed == json.loads(json.dumps(schema()))
    assert r"\\Z" not in json.dumps(schema()), "JavaScript, and so every editor, takes it for a letter"


FAMILIES = "region: ap-northeast-2\nfamilies:\n"


@pytest.mark.parametrize(
    ("families", "problem"),
    [
        ("  video: {x: 1}\n", r"unknown key 'x' in families\.video: known keys are variables_file, build, handover"),
        ("  video: {cleanup: {kep: 1}}\n", r"unknown key 'kep' in families\.video\.cleanup: known keys are older_than"),
        ("  video: {cleanup: {keep: 0}}\n", r"families\.video\.cleanup\.keep is 0, expected a whole number >= 1"),
        ("  video: {cleanup: {older_than: x}}\n", r"families\.video\.cleanup\.older_than 'x' is not a duration"),
        ("  video: {cleanup: {regions: [5]}}\n", r"families\.video\.cleanup\.regions\[0\] is 5, expected text"),
        ("  video: {variables_file: 0123}\n", r"families\.video\.variables_file is 0123, expected text or null"),
        ("  video: 5\n", r"families\.video is 5, expected keys with values"),
        ("  video:\n", r"families\.video is null, expected keys with values"),
        ("  Video: {}\n", r"families has 'Video', which is no name of a family"),
        ('  "video\\n": {}\n', r"families has 'video\\n', which is no name of a family"),
        ("  5: {}\n", r"families has 5, which is no name of a family"),
        ("  a: {}\n  a: {}\n", r"has the key 'a' twice, in lines 3 and 4"),
        ("  - video\n", r"families is \['video'\], expected keys with values"),
        (
            "  video: {}\n  training: {}\n",
            r"the families video and training have the same variables_file, packer/variables\.auto\.pkrvars\.hcl: give",
        ),
        (
            "  video: {variables_file: packer/a}\n  training: {variables_file: packer/x/../a}\n",
            r"the families video and training have the same variables_file, packer/x/\.\./a: give",
        ),
        (
            "  video: {variables_file: a}\n  training: {variables_file: b, handover: {file: ./terraform/gpu-ami.auto.tfvars.json}}\n",  # noqa: E501
            r"video and training have the same handover target, gpu_ami_id in \./terraform/gpu-ami\.auto",
        ),
        (
            "  video: {variables_file: a}\n  training: {variables_file: b, handover: {variable: v, parameter: gpu-ami/video/ami-id}}\n",  # noqa: E501
            r"video and training have the same SSM parameter, gpu-ami/video/ami-id: give",
        ),
        ("  video: {}\nfamily: video\n", r"has family and families: put video under families, or keep one"),
    ],
)
def test_families_that_cannot_be_used_are_refused(tmp_path: Path, families: str, problem: str) -> None:
    """In one line that names the family, or both: two that have one target would take each other's AMI away."""
    with pytest.raises(UsageError, match=problem) as refused:
        _load(tmp_path, FAMILIES + families)

    assert "\n" not in str(refused.value)


def test_a_family_has_what_the_whole_pipeline_has_where_it_says_nothing_else(tmp_path: Path) -> None:
    """Also within a section; and of no families there is one, as ever."""
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "region: ap-northeast-2\ncleanup: {older_than: 9d, keep: 7}\nverify: {before: apply}\nfamilies:\n"
        "  video: {variables_file: v.pkrvars.hcl, cleanup: {keep: 2}, handover: {variable: v}}\n  training: {}\n"
    )

    settings = load(file, Options(region="us-east-1"))
    video, training = (settings.of_family(name) for name in settings.names)

    assert (settings.names, EMBEDDED.names) == (("video", "training"), ("gpu-batch",))
    assert (video.family, video.region, video.verify.before) == ("video", "us-east-1", "apply")
    assert (video.cleanup.older_than, video.cleanup.keep, training.cleanup.keep) == ("9d", 2, 7)
    assert (video.variables_file, training.variables_file) == ("v.pkrvars.hcl", EMBEDDED.variables_file)
    assert (video.other_variables_files, training.other_variables_files) == (
        (EMBEDDED.variables_file,),
        ("v.pkrvars.hcl",),
    )
    assert EMBEDDED.of_family("gpu-batch") is EMBEDDED
    assert EMBEDDED.other_variables_files == ()
    file.write_text("region: ap-northeast-2\nfamilies: {}\n")
    assert load(file, Options()) == EMBEDDED


@pytest.mark.parametrize("written", ["off", "'off'", "Off", "no", "false"])
def test_a_bench_is_off_where_yaml_makes_it_a_truth_value(written: str) -> None:
    """YAML 1.1, which PyYAML reads, calls off false; editors read 1.2, and offer off."""
    settings = parse(
        f"region: ap-northeast-2\npromotion: {{bench: {written}, target_s: 300}}\n", source="pipeline.yaml"
    )

    assert (settings.promotion.bench, settings.promotion.target_s) == ("off", 300)


def test_a_familys_own_off_is_off_too() -> None:
    """And what the pipeline has of a section, a family has where it says nothing else."""
    text = (
        "region: ap-northeast-2\npromotion: {bench: off, target_s: 9}\nfamilies:\n  video: {promotion: {bench: no}}\n"
    )

    video = parse(text, source="pipeline.yaml").of_family("video")

    assert (video.promotion.bench, video.promotion.target_s) == ("off", 9)

"""The checked-in messages are what the proto file says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cerebelum import _proto
from cerebelum._proto import engine_pb2 as pb
from cerebelum._proto.calls import ClientStream, ServerStream

PACKAGE = Path(_proto.__file__).parent


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The generator; without grpcio-tools every test here fails."""
    path = Path(__file__).resolve().parents[2] / "tools" / "generate_proto.py"
    spec = importlib.util.spec_from_file_location("generate_proto", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generating_again_changes_nothing(generator: ModuleType) -> None:
    assert generator.PROTO_ROOT.is_dir(), "the proto file is looked for where it is not"
    file = generator.compiled()
    hint = "run `python tools/generate_proto.py`"
    assert (PACKAGE / "engine_pb2.py").read_text(encoding="utf-8") == generator.module(file), hint
    assert (PACKAGE / "engine_pb2.pyi").read_text(encoding="utf-8") == generator.stub(file), hint


def test_the_messages_at_run_time_are_the_proto_files(generator: ModuleType) -> None:
    from google.protobuf import descriptor_pb2  # type: ignore[import-untyped]

    here = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(here)
    assert here == generator.compiled()


def test_a_changed_proto_file_is_noticed(generator: ModuleType, tmp_path: Path) -> None:
    source = (generator.PROTO_ROOT / generator.PROTO_NAME).read_text(encoding="utf-8")
    changed = tmp_path / generator.PROTO_NAME
    changed.parent.mkdir(parents=True)
    changed.write_text(source.replace("bool follow = 4;", "bool followed = 4;"), encoding="utf-8")
    file = generator.compiled(tmp_path)
    assert generator.module(file) != generator.module(generator.compiled())
    assert generator.stub(file) != generator.stub(generator.compiled())


def test_every_call_of_the_service_is_there_in_its_shape() -> None:
    service = pb.DESCRIPTOR.services_by_name["Engine"]
    assert len(service.methods) > 15
    for method in service.methods:
        call = getattr(pb.Engine, method.name)
        assert call.path == f"/cerebelum.v1.Engine/{method.name}"
        assert isinstance(call, ClientStream) == method.client_streaming, method.name
        assert isinstance(call, ServerStream) == method.server_streaming, method.name
        assert (method.input_type, method.output_type) == (call.request.DESCRIPTOR, call.answer.DESCRIPTOR)


@pytest.mark.parametrize("missing", ["grpc", "google.protobuf"])
def test_without_grpcio_the_import_says_what_to_install(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None\nimport cerebelum.client"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("ImportError: ")
    assert done.stderr.strip().endswith("pip install grpcio protobuf")

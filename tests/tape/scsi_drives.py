"""Drives by CDBs on a model, for tests."""

from mover.tape.codes import TapeMode
from mover.tape.scsi_drive import ScsiDrive
from mover.workers.device_messages import DeviceSpec
from tests.tape.model_drive import ModelDrive


def opened(
    model: ModelDrive, mode: TapeMode = TapeMode.RDWR, *, block_size: int = 0, implicit_filemark: bool = True
) -> ScsiDrive:
    spec = DeviceSpec("t0", "iscsi://127.0.0.1/iqn.2026-01.test:vtl/1", block_size=block_size)
    return ScsiDrive(model.transport(), spec, mode, implicit_filemark=implicit_filemark)


def odd(model: ModelDrive) -> ModelDrive:
    """As drives of the field and tgtd's are."""
    model.tells = model.locates = model.spaces_exactly = model.says_residual = model.gives_all = False
    return model

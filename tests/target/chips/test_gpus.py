"""GPUs by their descriptions."""

from __future__ import annotations

import pytest

from ckptgrad.errors import OptionError
from ckptgrad.target.chips.gpus import described_gpu, gpu_names, gpu_of_file

DESCRIPTION = """
gpu_device_info {
  cuda_compute_capability { major: 8 minor: 0 }
  fpus_per_core: 64
  core_count: 100
  clock_rate_ghz: 1.5
  memory_bandwidth: 2000000000000
  l2_cache_size: 40000000
  device_memory_size: 80000000000
}
device_description_str: "Abacus A1"
"""


def test_the_tensor_cores_of_an_h100_multiply_at_the_published_rate():
    """495 Tflop/s in TF32, of NVIDIA's data sheet."""
    assert described_gpu("h100").rates.product_rate == pytest.approx(495e12, rel=0.01)


def test_names_are_those_of_description_files():
    assert {"a100", "h100"} <= {*gpu_names()}
    with pytest.raises(FileNotFoundError):
        described_gpu("abacus")


def test_rates_of_a_description_by_hand(tmp_path):
    """6400 units at 1.5 GHz do 9600 G multiply-adds, which count twice; these tensor cores are 8 times as fast."""
    (tmp_path / "abacus.txt").write_text(DESCRIPTION)
    gpu = gpu_of_file(tmp_path / "abacus.txt")
    assert (gpu.kind, gpu.memory, gpu.description) == ("Abacus A1", 80_000_000_000, DESCRIPTION)
    rates = gpu.rates
    assert rates.element_rate == pytest.approx(19.2e12)
    assert rates.product_rate == pytest.approx(8 * 19.2e12)
    assert (rates.half_rate, rates.double_rate) == (pytest.approx(16 * 19.2e12), pytest.approx(19.2e12))
    assert rates.products(32, exact=True) == pytest.approx(19.2e12)
    assert (rates.read_rate, rates.write_rate, rates.cache) == (2e12, 2e12, 4e7)


def test_a_chip_without_a_name_is_called_by_its_file(tmp_path):
    file = tmp_path / "abacus.txt"
    file.write_text(DESCRIPTION.replace("device_description_str", "other"))
    assert gpu_of_file(file).kind == str(file)


def test_what_describes_no_gpu_is_refused(tmp_path):
    file = tmp_path / "abacus.txt"
    with pytest.raises(OptionError, match="cannot read the description"):
        gpu_of_file(file)
    file.write_text(DESCRIPTION.replace("core_count", "cores"))
    with pytest.raises(OptionError, match="lacks the field core_count"):
        gpu_of_file(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="cannot read"):
        gpu_of_file(file)

"""What every test shares: the choice of simulator."""

import os

import pytest

SIMULATORS = ("icarus", "verilator")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--simulator",
        action="append",
        choices=SIMULATORS,
        help="run the benches on this simulator only; may be repeated (default: all)",
    )


def pytest_configure() -> None:
    """One thread for each worker's arithmetic: workers already fill the cores, and sums repeat exactly."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that has a `simulator` argument once on each chosen simulator."""
    if "simulator" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("simulator") or SIMULATORS
        metafunc.parametrize("simulator", [name for name in SIMULATORS if name in chosen], scope="session")


def _only(simulator: str, request: pytest.FixtureRequest) -> str:
    chosen = request.config.getoption("simulator")
    if chosen and simulator not in chosen:
        pytest.skip(f"runs on {simulator}")
    return simulator


@pytest.fixture
def icarus(request: pytest.FixtureRequest) -> str:
    """For a test that runs on Icarus alone, where it is quick."""
    return _only("icarus", request)


@pytest.fixture
def verilator(request: pytest.FixtureRequest) -> str:
    """For a test that runs on Verilator alone."""
    return _only("verilator", request)

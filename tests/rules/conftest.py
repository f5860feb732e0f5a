def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes seconds to compile")

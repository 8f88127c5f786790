# One virtual environment for everything: created on first use, renewed when constraints.txt changes.
#   make demo            the simulated arm, driven by the real node over DDS     (SHORT=1: a few episodes)
#   make test            all tests, on two cores                                 (PYTEST_ARGS="-k stream")
#   make lint            formatter, linter, and whether Python 3.10 (Humble) knows every name
#   make mutants         whether the tests of safety-critical code notice faults     (FILES="spec_vla_ros/motion/limits.py")
# GPU users choose their build of torch, for example: make demo TORCH="torch==2.13.0 --index-url <wheels of your CUDA>"

TORCH ?= $(shell grep '^torch==' constraints.txt)
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
PYTEST_ARGS ?= -n 2 --dist loadgroup
FILES ?=
# Grammar is ruff's affair, names of the standard library vermin's. Python 2 had a `long`, which it takes torch's for.
OLDEST := -t=3.10- --violations --quiet --no-tips --no-parse-comments --exclude long

# MuJoCo renders through EGL, which needs no screen, but a system library.
export MUJOCO_GL ?= egl

.PHONY: demo test lint mutants clean egl

demo: $(STAMP) egl
	$(VENV)/bin/spec-vla demo $(if $(SHORT),--short)

test: $(STAMP) egl
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/vermin $(OLDEST) spec_vla_ros launch scripts test setup.py

mutants: $(STAMP)
	$(VENV)/bin/python scripts/mutate.py $(FILES)

clean:
	rm -rf $(VENV) build *.egg-info

egl:
	@test "$(MUJOCO_GL)" != egl || $(PYTHON) -c "import ctypes; ctypes.CDLL('libEGL.so.1')" 2>/dev/null || { \
	  echo "libEGL is missing; the simulated camera needs it. On Debian and Ubuntu:"; \
	  echo "  sudo apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"; \
	  echo "or render in software: MUJOCO_GL=osmesa (package libosmesa6)"; exit 1; }

# torch first: a plain "pip install" of something that needs torch would choose a build for us.
$(STAMP): constraints.txt setup.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q $(TORCH)
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(PIP) install -q -c $(VENV)/constraints.txt -e '.[model,embedded,image,sim,demo,replay,test]'
	touch $@

"""The reconciler with a host that loads nothing: what is loaded becomes what is wanted, and nothing serves less meanwhile."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import FailedPrecondition, ModelConfig, ModelLoadError, NotFound, Spec, SpecError, Unavailable, VersionSpec
from engine.control.reconciler import Reconciler
from engine.control.registry import Registry, Snapshot
from engine.control.repository import Repository
from engine.spec import FunctionSpec, ModelSpec, RepositorySpec, ServerSpec
from tests.fakes import PATIENCE_S, FakeHost, FakeHosted, Gate, ManualClock

POLL_S = 0.02


class Plant:
    """A repository folder, a host, and the reconciler between them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = FakeHost()
        self.clock = ManualClock()
        self.registry: Registry[FakeHosted] = Registry()
        self.reconciler: Reconciler[FakeHosted] = Reconciler(self.host, self.registry, self.clock)

    def put(self, name: str, *versions: int, content: bytes = b"model") -> None:
        """Writes model versions into the repository."""
        for version in versions:
            folder = self.root / name / str(version)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "model.onnx").write_bytes(content)

    def apply(self, spec: Spec | None = None, *, control: str = "none", load: tuple[str, ...] = ("*",)) -> None:
        """Wants the repository served as `control` says, or `spec`."""
        if spec is None:
            assert control in ("none", "explicit", "poll")
            repository = RepositorySpec(str(self.root), control, POLL_S, load)  # type: ignore[arg-type]
            spec = Spec(repository=repository, server=ServerSpec(drain_s=5.0))
        self.reconciler.apply(spec, Repository(self.root, _read_config) if spec.repository else None)

    def serving(self) -> dict[str, list[int]]:
        """The versions that answer, by model."""
        return {name: sorted(each.versions) for name, each in self.registry.snapshot.served.items()}

    def states(self) -> dict[str, str]:
        """State by name/version, as the index says."""
        return {f"{each.name}/{each.version}": each.state for each in self.reconciler.index()}

    def wait(self, happened: Callable[[], bool]) -> None:
        """Returns when the reconciler's own thread has made it so."""
        pause = threading.Event()
        for _ in range(int(PATIENCE_S / 0.01)):
            if happened():
                return
            pause.wait(0.01)
        pytest.fail(f"it never happened; index: {self.reconciler.index()}")


def _read_config(text: str, form: str) -> ModelConfig:
    if "bad" in text:
        raise ModelLoadError("config.pbtxt:1: bad")
    return ModelConfig(versions="all" if "all" in text else None)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    """A running reconciler over an empty repository."""
    plant = Plant(tmp_path)
    plant.reconciler.start()
    yield plant
    plant.reconciler.stop(0)
    assert len(plant.host.closed) == len(plant.host.loaded), "each loaded version is closed once"
    assert len(set(map(id, plant.host.closed))) == len(plant.host.closed)


# What the start loads.


def test_everything_in_the_repository_is_loaded_and_warmed_before_apply_returns(plant: Plant) -> None:
    plant.put("a", 1, 2)
    plant.put("b", 7)
    plant.apply()
    assert plant.serving() == {"a": [2], "b": [7]}
    assert plant.host.events == ["load a/2", "warm a/2", "load b/7", "warm b/7"]
    assert plant.reconciler.problems() == {}


def test_explicit_control_loads_at_the_start_only_what_is_named(plant: Plant) -> None:
    plant.put("a", 1)
    plant.put("b", 1)
    plant.apply(control="explicit", load=("b",))
    assert plant.serving() == {"b": [1]}
    assert plant.states() == {"a/None": "UNAVAILABLE", "b/1": "READY"}


def test_model_to_load_at_the_start_that_is_not_there_changes_nothing(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply()
    with pytest.raises(NotFound, match="model 'gone' is not in the repository"):
        plant.apply(control="explicit", load=("gone",))
    plant.put("b", 1)
    plant.reconciler.rescan()
    plant.reconciler.load("a")
    assert plant.serving()["a"] == [1]


def test_function_and_model_of_one_name_are_refused(plant: Plant) -> None:
    plant.put("a", 1)
    spec = Spec(repository=RepositorySpec(str(plant.root)), functions={"a": FunctionSpec("m:f", {}, {})})
    with pytest.raises(SpecError, match=r"functions\.a: the repository has a model of that name"):
        plant.apply(spec)


def test_functions_are_loaded_without_a_repository(plant: Plant) -> None:
    plant.apply(Spec(functions={"f": FunctionSpec("m:f", {}, {})}))
    assert plant.serving() == {"f": [1]}
    with pytest.raises(NotFound, match="there is no model repository"):
        plant.reconciler.load("f")
    with pytest.raises(FailedPrecondition, match="function of the spec"):
        plant.reconciler.unload("f")


# Failures.


@pytest.mark.parametrize("stage", ["load", "warm"])
def test_broken_model_is_reported_and_the_others_serve(plant: Plant, stage: str) -> None:
    plant.put("a", 1)
    plant.put("b", 1)
    (plant.host.fail_load if stage == "load" else plant.host.fail_warm)["a/1"] = "weights are torn"
    plant.apply()
    assert plant.serving() == {"b": [1]}
    (reason,) = plant.reconciler.problems().values()
    assert "weights are torn" in reason
    with pytest.raises(Unavailable, match=r"model 'a' is not ready: .*weights are torn"):
        plant.registry.acquire("a", None)


def test_version_that_fails_to_warm_up_is_closed(plant: Plant) -> None:
    plant.put("a", 1)
    plant.host.fail_warm["a/1"] = "no"
    plant.apply()
    assert plant.host.events == ["load a/1", "warm a/1", "close a/1"]


def test_broken_new_version_keeps_the_old_one_and_says_why(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    plant.put("a", 2)
    plant.host.fail_load["a/2"] = "weights are torn"
    with pytest.raises(ModelLoadError, match="model 'a' version 2: weights are torn"):
        plant.reconciler.load("a")
    assert plant.serving() == {"a": [1]}
    assert plant.states() == {"a/1": "READY", "a/2": "FAILED"}
    assert plant.reconciler.problems() == {}


def test_failed_version_is_tried_again_by_an_explicit_load_and_by_nothing_else(plant: Plant) -> None:
    plant.put("a", 1)
    plant.host.fail_load["a/1"] = "the disk was full"
    plant.apply(control="explicit")
    plant.put("b", 1)
    plant.reconciler.load("b")
    assert plant.host.events.count("load a/1") == 1
    plant.host.fail_load.clear()
    plant.reconciler.load("a")
    assert plant.serving() == {"a": [1], "b": [1]}


def test_broken_folder_nobody_asked_for_is_no_problem(plant: Plant) -> None:
    plant.put("a", 1)
    (plant.root / "b").mkdir()
    plant.apply(control="explicit", load=("a",))
    assert plant.reconciler.problems() == {}
    with pytest.raises(ModelLoadError, match="model 'b': no version folder"):
        plant.reconciler.load("b")


def test_wanted_folder_without_versions_is_a_problem(plant: Plant) -> None:
    (plant.root / "b").mkdir()
    plant.apply()
    assert plant.reconciler.problems() == {"b": "no version folder with model.onnx in it"}


def test_host_that_fails_to_close_stops_nothing_else(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    plant.host.fail_close = True
    plant.reconciler.unload("a")
    plant.wait(lambda: plant.states() == {"a/None": "UNAVAILABLE"})
    plant.reconciler.load("a")
    assert plant.serving() == {"a": [1]}


# Swaps and drains.


def test_new_version_serves_before_the_old_one_goes(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    plant.put("a", 2)
    plant.reconciler.load("a")
    assert plant.serving() == {"a": [2]}
    plant.wait(lambda: plant.host.closed != [])
    assert plant.host.events == ["load a/1", "warm a/1", "load a/2", "warm a/2", "close a/1"]


def test_old_version_is_closed_only_when_its_last_user_has_left(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    users = [plant.registry.acquire("a", None) for _ in range(2)]
    plant.put("a", 2)
    plant.reconciler.load("a")
    users[0].release()
    plant.reconciler.load("a")  # one more turn of the reconciler
    assert plant.states() == {"a/1": "DRAINING", "a/2": "READY"}
    assert plant.host.closed == []
    users[1].release()
    plant.wait(lambda: plant.states() == {"a/2": "READY"})
    assert [each.artifact.version for each in plant.host.closed] == [1]


def test_drain_ends_at_its_bound_whoever_stays(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    stuck = plant.registry.acquire("a", None)
    plant.reconciler.unload("a")
    assert plant.states() == {"a/1": "DRAINING"}
    plant.clock.advance(5.0)
    plant.wait(lambda: plant.host.closed != [])
    stuck.release()


def test_what_is_wanted_again_while_it_drains_is_loaded_when_the_drain_has_ended(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    stuck = plant.registry.acquire("a", None)
    plant.reconciler.unload("a")
    plant.reconciler.load("a")
    assert plant.states() == {"a/1": "DRAINING"}
    plant.clock.advance(5.0)
    plant.wait(lambda: plant.states() == {"a/1": "READY"})
    stuck.release()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_a_fault_has_ended(plant: Plant) -> None:
    class Fault(BaseException):
        pass

    def fails(artifact: object) -> FakeHosted:
        raise Fault

    plant.put("a", 1)
    plant.host.load = fails  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="shutting down"):
        plant.apply()


def test_file_changed_in_place_is_loaded_anew_under_the_same_version(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    first = plant.registry.find("a", 1)
    plant.put("a", 1, content=b"another model")
    plant.reconciler.load("a")
    assert plant.registry.find("a", 1) is not first
    plant.wait(lambda: plant.host.closed == [first.hosted])
    assert plant.serving() == {"a": [1]}


def test_loading_what_is_loaded_does_nothing(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    handle = plant.registry.find("a", 1)
    plant.reconciler.load("a")
    assert plant.registry.find("a", 1) is handle


def test_unloaded_model_is_out_of_reach_and_is_no_problem_even_while_it_drains(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    user = plant.registry.acquire("a", None)
    plant.reconciler.unload("a")
    assert plant.serving() == {}
    assert plant.reconciler.problems() == {}
    user.release()
    plant.wait(lambda: plant.states() == {"a/None": "UNAVAILABLE"})
    with pytest.raises(NotFound, match="model 'a' is not loaded"):
        plant.reconciler.unload("a")
    plant.reconciler.load("a")
    assert plant.serving() == {"a": [1]}


def test_config_given_with_a_load_stands_in_for_the_one_on_disk(plant: Plant) -> None:
    plant.put("a", 1, 2)
    plant.apply(control="explicit")
    assert plant.serving() == {"a": [2]}
    plant.reconciler.load("a", ModelConfig(versions="all"), "{...}")
    assert plant.serving() == {"a": [1, 2]}


def test_load_that_chooses_no_version_fails_and_says_so(plant: Plant) -> None:
    plant.put("a", 1, 2)
    plant.apply(control="explicit", load=())
    with pytest.raises(ModelLoadError, match="version policy chooses none of the versions there: 1, 2"):
        plant.reconciler.load("a", ModelConfig(versions=VersionSpec(specific=(9,))), "{...}")


def test_load_of_what_is_not_there_is_not_found(plant: Plant) -> None:
    plant.apply(control="explicit", load=())
    with pytest.raises(NotFound):
        plant.reconciler.load("../a")


def test_applying_another_spec_swaps_models_and_settings(plant: Plant) -> None:
    plant.put("a", 1, 2)
    plant.apply()
    repository = RepositorySpec(str(plant.root))
    plant.apply(Spec(repository=repository, models={"a": ModelSpec(versions="all")}))
    assert plant.serving() == {"a": [1, 2]}
    plant.apply(Spec())
    assert plant.serving() == {}


# Polling.


def test_polling_picks_up_new_versions_and_drops_removed_models(plant: Plant) -> None:
    plant.put("a", 1)
    plant.put("b", 1)
    plant.apply(control="poll")
    plant.put("a", 2)
    shutil.rmtree(plant.root / "b")
    plant.put("c", 1)
    plant.wait(lambda: plant.serving() == {"a": [2], "c": [1]})


def test_polling_keeps_what_serves_when_its_config_breaks_and_follows_when_it_is_mended(plant: Plant) -> None:
    plant.put("a", 1, 2)
    plant.apply(control="poll")
    (plant.root / "a" / "config.pbtxt").write_text("bad")
    plant.put("b", 1)
    plant.wait(lambda: "b" in plant.serving())
    assert plant.serving()["a"] == [2]
    (plant.root / "a" / "config.pbtxt").write_text("all")
    plant.wait(lambda: plant.serving()["a"] == [1, 2])


def test_polling_survives_a_repository_that_goes_away_for_a_while(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="poll")
    away = plant.root.with_name("away")
    plant.root.rename(away)
    threading.Event().wait(5 * POLL_S)  # nothing to wait for: that nothing happens is the point
    assert plant.serving() == {"a": [1]}
    away.rename(plant.root)
    plant.put("a", 2)
    plant.wait(lambda: plant.serving() == {"a": [2]})


def test_without_polling_nothing_changes_by_itself(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply()
    plant.put("a", 2)
    threading.Event().wait(5 * POLL_S)
    assert plant.serving() == {"a": [1]}


# Stopping.


def test_stop_closes_everything_and_refuses_more(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.reconciler.start()
    plant.put("a", 1)
    plant.apply(control="explicit")
    plant.reconciler.stop(5)
    assert plant.serving() == {}
    assert len(plant.host.closed) == 1
    plant.reconciler.stop(5)
    assert len(plant.host.closed) == 1
    with pytest.raises(Unavailable, match="shutting down"):
        plant.reconciler.load("a")


def test_stop_waits_for_users_no_longer_than_it_is_told(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.reconciler.start()
    plant.put("a", 1)
    plant.apply()
    plant.registry.acquire("a", None)
    plant.reconciler.stop(0.05)
    assert len(plant.host.closed) == 1


def test_stop_waits_for_users_who_leave_in_time(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.reconciler.start()
    plant.put("a", 1)
    plant.apply()
    user, left = plant.registry.acquire("a", None), threading.Event()

    def leave() -> None:
        plant.wait(lambda: plant.states() == {"a/1": "DRAINING"})
        assert plant.host.closed == []
        left.set()
        user.release()

    leaver = threading.Thread(target=leave)
    leaver.start()
    plant.reconciler.stop(PATIENCE_S)
    leaver.join()
    assert left.is_set()
    assert len(plant.host.closed) == 1


def test_stop_does_not_wait_for_a_load_and_what_comes_of_it_is_closed(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.reconciler.start()
    plant.put("a", 1)
    plant.apply(control="explicit")
    gate = Gate()
    plant.host.before_load = gate
    plant.put("b", 1)
    refusals: list[pytest.ExceptionInfo[Unavailable]] = []

    def ask() -> None:
        with pytest.raises(Unavailable, match="shutting down") as caught:
            plant.reconciler.load("b")
        refusals.append(caught)

    asked = threading.Thread(target=ask)
    asked.start()
    gate.wait_entered()
    assert not plant.reconciler.stop(10 * PATIENCE_S), "the load goes on"
    assert [each.artifact.name for each in plant.host.closed] == ["a"]
    asked.join(PATIENCE_S)
    assert refusals
    gate.open()
    plant.wait(lambda: [each.artifact.name for each in plant.host.closed] == ["a", "b"])
    assert plant.reconciler.stop(0)
    assert plant.serving() == {}


def test_scan_under_way_at_the_stop_brings_nothing_back(tmp_path: Path) -> None:
    plant, gate = Plant(tmp_path), Gate()

    def read_config(text: str, form: str) -> ModelConfig:
        gate()
        return _read_config(text, form)

    plant.reconciler.start()
    plant.put("a", 1)
    plant.reconciler.apply(Spec(repository=RepositorySpec(str(tmp_path))), Repository(tmp_path, read_config))
    user = plant.registry.acquire("a", None)
    plant.put("a", 2)
    (tmp_path / "a" / "config.pbtxt").write_text("all")
    scanner = threading.Thread(target=plant.reconciler.rescan)
    scanner.start()
    gate.wait_entered()
    stopper = threading.Thread(target=plant.reconciler.stop, args=(PATIENCE_S,))
    stopper.start()
    plant.wait(lambda: plant.states() == {"a/1": "DRAINING"})
    gate.open()
    scanner.join(PATIENCE_S)
    assert plant.states() == {"a/1": "DRAINING"}
    user.release()
    stopper.join(PATIENCE_S)
    assert not stopper.is_alive()
    assert len(plant.host.loaded) == 1


def test_engine_that_never_started_stops(tmp_path: Path) -> None:
    Plant(tmp_path).reconciler.stop(0)


def test_requests_go_on_while_a_new_version_is_loading(plant: Plant) -> None:
    plant.put("a", 1)
    plant.apply(control="explicit")
    gate = Gate()
    plant.host.before_load = gate
    plant.put("a", 2)
    loading = threading.Thread(target=plant.reconciler.load, args=("a",))
    loading.start()
    gate.wait_entered()
    assert plant.registry.acquire("a", None).version == 1
    assert plant.states() == {"a/1": "READY", "a/2": "LOADING"}
    plant.registry.find("a", 1).release()
    gate.open()
    loading.join(PATIENCE_S)
    assert plant.serving() == {"a": [2]}


# What is loaded anew.

FUNCTIONS = Spec(functions={name: FunctionSpec("m:f", {}, {}) for name in "fg"})


def meanings(plant: Plant) -> list[int]:
    """Of what serves: f, g."""
    return [plant.registry.snapshot.served[name].newest.hosted.meaning for name in "fg"]


@pytest.mark.parametrize("last", [1, 3])
def test_what_becomes_another_while_it_is_loaded_anew_is_loaded_once_more(plant: Plant, last: int) -> None:
    plant.apply(FUNCTIONS)
    plant.host.before_load = gate = Gate()
    plant.host.meaning = 2
    askers = [threading.Thread(target=plant.reconciler.renew, args=("f",)) for _ in range(2)]
    askers[0].start()
    gate.wait_entered()
    plant.host.meaning = last
    askers[1].start()
    askers[1].join(0.1)
    assert askers[1].is_alive(), "what it asks for has not happened"
    gate.open()
    for each in askers:
        each.join(PATIENCE_S)
    assert meanings(plant)[0] == last


@pytest.mark.parametrize("failure", [None, "there is nothing"])
def test_what_is_asked_for_anew_while_it_is_first_loaded_is_not_forgotten(plant: Plant, failure: str | None) -> None:
    if failure is not None:
        plant.host.fail_load["f/1"] = failure
    plant.host.before_load = gate = Gate()
    applying = threading.Thread(target=plant.apply, args=(FUNCTIONS,))
    applying.start()
    gate.wait_entered()
    plant.host.fail_load.clear()
    plant.host.meaning = 2
    asking = threading.Thread(target=plant.reconciler.renew, args=("f",))
    asking.start()
    asking.join(0.1)
    gate.open()
    for each in (asking, applying):
        each.join(PATIENCE_S)
    assert meanings(plant) == [2, 2]


def test_what_is_loaded_anew_is_published_at_once(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.apply(FUNCTIONS)
    published, publish = [], plant.registry.publish

    def watched(snapshot: Snapshot[FakeHosted]) -> None:
        publish(snapshot)
        published.append(meanings(plant))

    monkeypatch.setattr(plant.registry, "publish", watched)
    plant.host.meaning = 2
    plant.reconciler.renew(("f", "g"))
    assert published[-1] == [2, 2]
    assert [2, 1] not in published
    assert [1, 2] not in published

"""The harness itself: two nodes, one task each, and nothing left behind."""

import psutil


def test_srun_reaches_both_nodes(slurm):
    done = slurm.run("srun", "--nodes=2", "--ntasks-per-node=1", "bash", "-c", "echo $SLURM_NODEID $SLURMD_NODENAME")
    assert sorted(done.stdout.splitlines()) == ["0 n1", "1 n2"]


def test_a_lost_node_is_noticed_and_comes_back(slurm):
    slurm.wait_for_idle_nodes()
    slurm.lose_node("n2")
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(slurm.folder) in command and " n2 " in command]
    slurm.start_node("n2")
    assert slurm.run("srun", "--nodelist=n2", "hostname").returncode == 0

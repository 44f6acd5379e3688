# Sourced by every job before its one srun: modules, the environment, and what happens when the job ends.
# `mindshift launch` sets the MINDSHIFT_* variables from launch/site.yaml; srun hands this environment to all nodes.
[ -z "$MINDSHIFT_MODULES" ] || module load $MINDSHIFT_MODULES
export PATH="$MINDSHIFT_ENVIRONMENT/bin:$PATH" PYTHONPATH="$MINDSHIFT_HOME" PYTHONUNBUFFERED=1
# Since SLURM 22.05 srun no longer takes a job's cores from sbatch: where tasks are bound, the stage would have one.
[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
# Notes the exit code for `mindshift launch status`; requeues after a warning of the time limit or a lost node.
trap 'python3 -m launch.job_end $?; exit $?' EXIT

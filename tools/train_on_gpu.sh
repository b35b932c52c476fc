#!/usr/bin/env bash
# Train in slices on machines that are lent for minutes: restore, go on, stop in time, pack up in small files.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tools/train_on_gpu.sh --config-file FILE --minutes N --state DIR [--work DIR] [--part-size SIZE] [-- KEY=VALUE ...]

Goes on from the checkpoint in --state, or starts; ends after N minutes at the latest with a new one there.

  --state DIR       the run in parts of --part-size at most, with a checksum: what travels between machines
  --minutes N       of training; a checkpoint is written when they are over (packing takes seconds more)
  --work DIR        OUTPUT_DIR while it runs (default: output/slices)
  --part-size SIZE  as split -b takes it (default: 15M)
  -- KEY=VALUE ...  overrides, the same for every slice. bfloat16 and rendering on the GPU are on by default:
                    SOLVER.AMP.ENABLED=True CAD.DEVICE=cuda; on a CPU give CAD.DEVICE= SOLVER.AMP.ENABLED=False

Each slice adds its end and its minutes to DIR/slices.txt; metrics.json in the run has losses and ROIs/s over time.
Scores of DATASETS.TEST are in it for each TEST.EVAL_PERIOD.

example:
  tools/train_on_gpu.sh --config-file configs/gdrn_selfocc/lmo/cad_only.py --minutes 9 --state output/state \
      -- DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
TEXT
}

fail() {
    echo "error: $1" >&2
    exit "${2:-1}"
}

config="" minutes="" state="" work="output/slices" part_size="15M"
while (($#)); do
    case "$1" in
        -h | --help) usage && exit 0 ;;
        --) shift && break ;;
        --config-file | --minutes | --state | --work | --part-size)
            (($# > 1)) || fail "$1 needs a value; see --help" 2
            declare "$(tr '-' '_' <<<"${1#--}" | sed 's/config_file/config/')=$2"
            shift 2
            ;;
        *) fail "unknown word '$1'; overrides stand behind --, see --help" 2 ;;
    esac
done
[[ -n $config && -n $minutes && -n $state ]] || fail "--config-file, --minutes and --state are needed; see --help" 2
[[ $minutes =~ ^[0-9]+$ && $minutes -gt 0 ]] || fail "--minutes must be a whole number above 0, got '$minutes'" 2

# Restore: the parts are one archive again only if nothing of it was lost on the way.
mkdir -p "$state" "$work"
[[ -d $state/run || ! -d $state/run.old ]] || mv "$state/run.old" "$state/run" # a slice was cut off between two moves
if [[ -d $state/run ]]; then
    cat "$state"/run/part.* | sha256sum | cmp -s - "$state/run/sha256" ||
        fail "the parts in $state/run are not those that were packed; copy the whole folder again"
    cat "$state"/run/part.* | tar -x -C "$work"
fi

# SIGTERM makes the trainer write a checkpoint and leave with 0; a second limit is for one that hangs.
started=$SECONDS status=0
timeout --signal=TERM --kill-after=120 "$((minutes * 60))" \
    python gdrn_selfocc_modeling/main_gdrn.py --config-file "$config" --resume --opts \
    "OUTPUT_DIR=$work" SOLVER.AMP.ENABLED=True CAD.DEVICE=cuda SOLVER.MAX_TO_KEEP=1 "$@" || status=$?
# timeout says 124 when the time was over, which is how a slice ends.
[[ $status == 0 || $status == 124 ]] || fail "the training ended with $status, $state is as it was" "$status"

# Pack beside, then put in place.
last=$(cat "$work/last_checkpoint") || fail "the slice was too short for a checkpoint; give it more --minutes"
files=("last_checkpoint" "$last" "$last.sha256")
for name in metrics.json run.json config.py model_final.safetensors; do
    [[ -e $work/$name ]] && files+=("$name")
done
packed=$(mktemp -d "$state/.packing.XXXXXX")
trap 'rm -rf "$packed"' EXIT
tar -c -C "$work" "${files[@]}" | split -b "$part_size" -d -a 3 - "$packed/part."
cat "$packed"/part.* | sha256sum >"$packed/sha256"
chmod 755 "$packed"
sync
[[ ! -d $state/run ]] || mv "$state/run" "$state/run.old"
mv "$packed" "$state/run"
rm -rf "$state/run.old"
echo "$last after $(((SECONDS - started + 30) / 60)) minutes" | tee -a "$state/slices.txt"

#!/bin/sh
# bundle.sh [--tests] [--with-nccl] [--tar] [BUILD [OUT]]: a folder OUT (build/bundle) with what BUILD (build) has made and
# all that it needs beside glibc and CUDA: it runs wherever it is copied to, on machines with no Open MPI, no package of
# dtrain's and no compiler, of the same glibc or a newer one.
#
#     OUT/bin/dtrain CONFIG                             one process
#     OUT/bin/mpirun -np 4 OUT/bin/dtrain CONFIG        several, by the bundle's own Open MPI
#
# --tests: also what tests GPUs (OUT/tests/acceptance.sh) and measures them (OUT/bench). --with-nccl: libnccl.so.2, for
# machines with several GPUs that do not have it. --tar: OUT.tar.gz too.
#
# The CUDA module is in it where BUILD has it. CUDA's libraries are the target's: where the loader does not know them,
# bin/dtrain looks in /usr/local/cuda and beside python3's packages. Plugins of Open MPI that drive fabrics are left out,
# for their drivers belong to the machine: ranks talk through shared memory and TCP, GPUs by NCCL, which has its own.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)

tests=0 nccl=0 tar=0
while [ $# -gt 0 ]; do
    case $1 in
    --tests) tests=1 ;;
    --with-nccl) nccl=1 ;;
    --tar) tar=1 ;;
    -*) echo "usage: launch/bundle.sh [--tests] [--with-nccl] [--tar] [BUILD [OUT]]" >&2 && exit 2 ;;
    *) break ;;
    esac
    shift
done
build=${1:-$source/build}
out=${2:-$build/bundle}

die() { echo "bundle: $*" >&2 && exit 1; }
[ -x "$build/dtrain" ] || die "$build/dtrain: not there; launch/setup.sh makes it"
command -v ompi_info >/dev/null || die "no ompi_info here: the bundle carries Open MPI, and asks it where its parts lie"
version=$(ompi_info --version | sed -n 's/^Open MPI v\([0-9]*\).*/\1/p')
[ "$version" = 4 ] || die "Open MPI $version is here; the bundle knows the parts of Open MPI 4"
[ ! -e "$out" ] || [ -d "$out/libexec" ] || die "$out: there, and not a bundle; expected a folder to make"
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib/openmpi" "$out/libexec" "$out/share" "$out/etc"
out=$(cd "$out" && pwd)

ompi_path() { ompi_info --path "$1" --parsable | sed -n "s/^path:$1://p" | head -n 1; }

# The names of libraries that belong to the target: glibc's, CUDA's and the driver's.
glibc='ld-linux.*|libc|libm|libdl|librt|libpthread|libresolv|libutil|libanl|libnsl|libnss_.*'
cuda='libcuda|libcudart|libcublas.*|libcudnn.*|libnccl|libnv.*|libcufft|libcurand|libcusparse|libcusolver'
fabrics='libfabric|libuc[pst]|libpsm.*|libibverbs|librdmacm'

needs() { ldd "$1" 2>/dev/null | awk '{ print $1 }' | grep -Eq "^($2)\\.so"; }

# carry FILE...: copies the libraries that files need.
carry() {
    for file; do ldd "$file" 2>/dev/null; done | awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | sort -u |
        grep -Ev "^($glibc|$cuda)\\.so" | while read -r name path; do
        [ -e "$out/lib/$name" ] || cp -L "$path" "$out/lib/$name"
    done
}

# ---- programs ----

programs='dtrain'
if [ $tests = 1 ]; then
    [ -x "$build/tests/gpu_ops" ] || die "$build/tests/gpu_ops: not there; launch/setup.sh --tests makes it"
    programs="$programs run_diff $(cd "$build/tests" && echo gpu_*)"
fi
for program in $programs; do
    path=$build/$program
    [ -x "$path" ] || path=$build/tests/$program
    [ -x "$path" ] || die "$path: not there; launch/setup.sh --tests makes it"
    cp "$path" "$out/libexec/$program"
done
for program in mpirun orted; do cp -L "$(command -v $program)" "$out/libexec/$program"; done
cp "$source/launch/mpirun.sh" "$out/libexec"
chmod u+w "$out"/libexec/*
carry "$out"/libexec/dtrain "$out"/libexec/mpirun "$out"/libexec/orted

cuda_needed=
if [ -f "$build/libdtrain_cuda.so" ]; then
    cp "$build/libdtrain_cuda.so" "$out/lib"
    carry "$out/lib/libdtrain_cuda.so"
    cuda_needed=$(ldd "$out/lib/libdtrain_cuda.so" | awk '{ print $1 }' | grep -E "^($cuda)\\.so" | tr '\n' ' ')
    cuda_needed="${cuda_needed}libcuda.so.1 libcudnn.so.9 libnccl.so.2" # what is opened only where it is used
fi
if [ $nccl = 1 ]; then
    path=$(find -L /usr/local/cuda /usr/lib /lib -name libnccl.so.2 2>/dev/null | head -n 1)
    [ -n "$path" ] || die "--with-nccl: no libnccl.so.2 in /usr/local/cuda, /usr/lib or /lib"
    cp -L "$path" "$out/lib"
fi

# ---- Open MPI: plugins, help texts, settings; and those of PMIx, which some plugin brings ----

for plugin in "$(ompi_path pkglibdir)"/mca_*.so; do
    case ${plugin##*/} in mca_spml_* | mca_sshmem_* | mca_scoll_* | mca_memheap_* | mca_atomic_*) continue ;; esac # SHMEM
    if needs "$plugin" "$fabrics"; then continue; fi
    cp "$plugin" "$out/lib/openmpi"
    carry "$plugin"
done
cp -RL "$(ompi_path pkgdatadir)" "$out/share/openmpi"
sysconfdir=$(ompi_path sysconfdir)
if [ -d "$sysconfdir" ]; then cp -RL "$sysconfdir" "$out/etc/openmpi"; fi
for plugin in "$out"/lib/openmpi/mca_pmix_*.so; do
    pmix=$(ldd "$plugin" | awk '/libpmix/ { print $3 }')
    [ -n "$pmix" ] || continue
    pmix=$(dirname "$(readlink -f "$pmix")")
    [ -d "$pmix/pmix" ] || continue
    cp -RL "$pmix/pmix" "$out/lib/pmix"
    carry "$out"/lib/pmix/*.so
    if [ -d "$pmix/../share/pmix" ]; then cp -RL "$pmix/../share/pmix" "$out/share/pmix"; fi
    break
done

find "$out/lib" "$out/libexec" -type f \( -name '*.so*' -o -perm -u+x \) ! -name '*.sh' -exec chmod 755 {} + \
    -exec strip --strip-unneeded {} + 2>/dev/null || true # readable without it, only larger

# ---- the way in ----

cat >"$out/libexec/environment.sh" <<EOF
# Sourced with \$here, the bundle's folder: where the loader, Open MPI and PMIx find their parts.
cuda_needed="$cuda_needed"
EOF
cat >>"$out/libexec/environment.sh" <<'EOF'
if [ "${DTRAIN_BUNDLE-}" != "$here" ]; then # else mpirun has been here
    # What of CUDA the loader does not know may be in the toolkit's folder, a container's, or Python's packages.
    known=$(/sbin/ldconfig -p 2>/dev/null || true)
    found=
    for library in $cuda_needed; do
        case $known in *"$library "*) continue ;; esac
        : "${packages=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2>/dev/null || true)}"
        for folder in /usr/local/cuda/lib64 /usr/local/cuda/targets/*/lib /usr/local/nvidia/lib64 "$packages"/nvidia/*/lib; do
            [ -e "$folder/$library" ] || continue
            case "$found:" in *":$folder:"*) ;; *) found=$found:$folder ;; esac
            break
        done
    done
    export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}$found"
    export OPAL_PREFIX="$here" OPAL_BINDIR="$here/bin" OPAL_LIBDIR="$here/lib" OPAL_PKGLIBDIR="$here/lib/openmpi"
    export OPAL_DATADIR="$here/share" OPAL_PKGDATADIR="$here/share/openmpi" OPAL_SYSCONFDIR="$here/etc/openmpi"
    export PMIX_INSTALL_PREFIX="$here" PMIX_LIBDIR="$here/lib" PMIX_PKGLIBDIR="$here/lib/pmix"
    export PMIX_DATADIR="$here/share" PMIX_PKGDATADIR="$here/share/pmix" PMIX_SYSCONFDIR="$here/etc"
    export HWLOC_PLUGINS_PATH="$here/lib/hwloc" # none: the system's may be of another version
    # One machine needs no ssh, but Open MPI does not start without one unless told.
    command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm="${OMPI_MCA_plm-^rsh}"
    export DTRAIN_BUNDLE="$here"
fi
EOF

launcher() { # launcher NAME COMMAND: bin/NAME, which runs COMMAND in the bundle's environment
    cat >"$out/bin/$1" <<EOF
#!/bin/sh
here=\$(cd "\$(dirname "\$(readlink -f "\$0")")/.." && pwd -P)
. "\$here/libexec/environment.sh"
$2
EOF
    chmod 755 "$out/bin/$1"
}
for program in $programs orted; do launcher "$program" "exec \"\$here/libexec/$program\" \"\$@\""; done
# shellcheck disable=SC2016 # the launcher's own
launcher mpirun 'PATH=$here/libexec:$PATH exec "$here/libexec/mpirun.sh" --prefix "$here" "$@"'

if [ $tests = 1 ]; then
    mkdir -p "$out/tests/parity" "$out/bench"
    cp -R "$source/bench/." "$out/bench"
    find "$out/bench" -name __pycache__ -exec rm -rf {} +
    find "$source/tests/gpu" -name '*.sh' -exec cp {} "$out/tests" \;
    cp "$source/tests/parity/rows.py" "$out/tests/parity"
    cp -R "$source/examples" "$out"
    stories=$source/../shared/data/stories260k
    if [ -d "$stories" ]; then cp -RL "$stories" "$out/examples/stories260k"; fi
fi

# Everything is there: no library is missing but the target's own.
missing=$(find "$out/lib" "$out/libexec" -type f \( -name '*.so*' -o -perm -u+x \) ! -name '*.sh' -exec env LD_LIBRARY_PATH="$out/lib" \
    ldd {} + 2>/dev/null | awk '/not found/ { print $1 }' | sort -u | grep -Ev "^($glibc|$cuda)\\.so" || true)
[ -z "$missing" ] || die "libraries that are nowhere on this machine: $missing"

echo "bundle: $out, $(du -sm "$out" | cut -f 1) MB"
if [ $tar = 1 ]; then
    tar -C "$(dirname "$out")" -czf "$out.tar.gz" "$(basename "$out")"
    echo "bundle: $out.tar.gz, $(du -sm "$out.tar.gz" | cut -f 1) MB"
fi

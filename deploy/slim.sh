#!/bin/sh
# slim.sh PACKAGES: removes from the image's packages what no role loads: 150 of 540 MB. Needs binutils' strip.
set -eu
cd "$1"

# services of other hosts, and what compiles against Arrow
rm -rf pyarrow/include pyarrow/includes pyarrow/src
rm -f pyarrow/*flight* pyarrow/*s3* pyarrow/*.pyx pyarrow/*.pxi
# one library under three names, which a wheel cannot hold as links
for library in pyarrow/libarrow_python.so.*.*; do
  ln -sf "$(basename "$library")" "${library%.*.*}"
  ln -sf "$(basename "$library")" pyarrow/libarrow_python.so
done

find . -depth -type d -name tests -exec rm -r {} +
find . -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.h' -o -name '*.c' \) -delete
# symbols for debuggers; libraries that auditwheel has moved (in *.libs) may not be stripped
find . -type f -name '*.so*' -not -path './*.libs/*' -exec strip --strip-unneeded {} +

#!/bin/sh
# Cleans a cloud that CloudCompare reads, and computes in CloudCompare how far each clean point is from the noisy cloud.
#   sh cloudcompare.sh scan.bin         writes scan.clean.ply, and scan.clean_C2C_DIST.bin to open in CloudCompare
set -e
scan=$1
name=${scan%.*}
CloudCompare -SILENT -AUTO_SAVE OFF -O "$scan" -C_EXPORT_FMT PLY -PLY_EXPORT_FMT BINARY_LE -SAVE_CLOUDS FILE "$name.in.ply"
becalm denoise "$name.in.ply" -o "$name.clean.ply" --details
CloudCompare -SILENT -NO_TIMESTAMP -O "$name.clean.ply" -O "$name.in.ply" -C2C_DIST

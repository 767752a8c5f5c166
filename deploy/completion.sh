#!/bin/sh
# completion.sh BIN PROGRAM SHARE [NAME]: writes the completion scripts of BIN/PROGRAM, or of the stock NAME it answers to, to
# where bash, zsh and fish look for them below SHARE.
set -e
bin=$1 program=$2 share=$3 name=$4
write() { # SHELL FILE
	mkdir -p "$(dirname "$2")"
	"$bin/$program" completion "$1" ${name:+"$name"} >"$2"
	chmod 0644 "$2"
}
write bash "$share/bash-completion/completions/${name:-$program}"
write zsh "$share/zsh/site-functions/_${name:-$program}"
write fish "$share/fish/vendor_completions.d/${name:-$program}.fish"

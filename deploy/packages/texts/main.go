// Command texts writes the texts of a package that are made from others: the licences of
// every module in a binary, and Debian's and rpm's changelogs from CHANGELOG.md. Only the build of
// packages (build.sh beside it) runs it.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

const usage = `usage: texts notices BINARY                              the licences of what is linked into BINARY
       texts changelog PACKAGE VERSION MAINTAINER SECONDS   CHANGELOG.md, from standard input, in Debian's format
       texts entries PACKAGE VERSION MAINTAINER SECONDS     the same as nfpm takes it for an .rpm`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "texts:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var out bytes.Buffer // nothing is written where something fails
	switch {
	case len(args) == 2 && args[0] == "notices":
		if err := notices(&out, args[1]); err != nil {
			return err
		}
	case len(args) == 5 && (args[0] == "changelog" || args[0] == "entries"):
		seconds, err := strconv.ParseInt(args[4], 10, 64)
		if err != nil {
			return err
		}
		p := packaged{name: args[1], version: args[2], maintainer: args[3], at: time.Unix(seconds, 0).UTC()}
		write := p.debian
		if args[0] == "entries" {
			write = p.nfpm
		}
		if err := write(&out, os.Stdin); err != nil {
			return err
		}
	default:
		return errors.New(usage)
	}
	_, err := os.Stdout.Write(out.Bytes())
	return err
}

// Command collector receives the audit records of a fleet of hosts, stores them
// and answers who did what, where and when.
package main

import (
	"context"
	"os"

	"github.com/auditfleet/auditfleet/collector/internal/cli"
)

// version is set by the linker.
var version = "unknown"

func main() {
	stdio := cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(cli.Run(context.Background(), version, os.Args, stdio))
}

// Command collector receives the audit records of a fleet of hosts, stores them
// and answers who did what, where and when.
package main

import (
	"context"
	"os"

	"github.com/auditfleet/auditfleet/collector/internal/cli"
	"github.com/auditfleet/auditfleet/pkg/built"
)

// version is set by the linker.
var version = built.Unknown

func main() {
	stdio := cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(cli.Run(context.Background(), built.Version(version), os.Args, stdio))
}

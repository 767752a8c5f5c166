// Command forwarder is the agent on every host: it reads the kernel's audit
// records, keeps the local log and ships every record to a collector.
package main

import (
	"context"
	"os"

	"github.com/auditfleet/auditfleet/forwarder/internal/cli"
	"github.com/auditfleet/auditfleet/pkg/built"
)

// version is set by the linker.
var version = built.Unknown

func main() {
	os.Exit(cli.Run(context.Background(), os.Args, cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, built.Version(version)))
}

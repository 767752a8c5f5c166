package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/forwarder/internal/enroll"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

const enrollHelp = `Gets this host's certificate from a collector, once, with a token that
"collector token HOST" has printed: the host's key is made here and never leaves.
Writes OUT/HOST.crt, OUT/HOST.key and OUT/ca.crt, for --tls-cert, --tls-key and
--tls-ca. Nothing is overwritten.

The collector is known by its name and by the CA's fingerprint in the token, before
the token is shown to it. A token on the command line can be seen by every user of
this host while the command runs: --token-file FILE reads it from a file, or from
standard input for "-".

Exit codes: 0 done, 1 not done, 2 wrong command line.`

// enrollFlags holds the values of enroll's flags.
type enrollFlags struct{ server, token, tokenFile, out string }

func newEnrollCommand(std Stdio) *cobra.Command {
	o := &enrollFlags{}
	cmd := &cobra.Command{
		Use:     "enroll --server HOST:PORT (--token TOKEN | --token-file FILE) --out DIR",
		Short:   "Get this host's certificate from a collector with a token",
		Long:    enrollHelp,
		Example: "  forwarder enroll --server collector.example.com:6514 --token-file - --out /etc/auditfleet/tls <web1.token",
		Args:    command.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), std) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.server, "server", "", "the collector's gRPC address, HOST:PORT")
	f.StringVar(&o.token, "token", "", "the token; other users of this host can see it in ps")
	f.StringVar(&o.tokenFile, "token-file", "", `a file with the token, "-" for standard input`)
	f.StringVar(&o.out, "out", "", "folder for the certificate, its key and the CA's certificate")
	completion.Flags(cmd, map[string]option.Words{"token-file": option.Files, "out": option.Folders})
	return cmd
}

func (o *enrollFlags) run(ctx context.Context, std Stdio) error {
	switch {
	case o.server == "":
		return command.Wrongf("--server is missing: the collector's gRPC address, HOST:PORT")
	case o.out == "":
		return command.Wrongf("--out is missing: the folder for the certificate and its key")
	case o.token == "" && o.tokenFile == "":
		return command.Wrongf("--token-file is missing: the file with the token, or - for standard input")
	case o.token != "" && o.tokenFile != "":
		return command.Wrongf("--token and --token-file: give one of them")
	}
	if _, port, err := net.SplitHostPort(o.server); err != nil || port == "" {
		return command.Wrongf("--server %.200q is not HOST:PORT", o.server)
	}
	token := o.token
	if o.tokenFile != "" {
		var err error
		if token, err = readToken(o.tokenFile, std); err != nil {
			return fmt.Errorf("enroll: read the token: %w", err)
		}
	}
	files, err := enroll.Token(ctx, o.server, token, o.out)
	if err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	fmt.Fprintf(std.Out, "%s, %s, %s: serial %s, valid until %s\n", files.Cert, files.Key, files.CA, pki.Serial(files.Leaf.SerialNumber), files.Leaf.NotAfter.Format(time.DateOnly))
	if now := time.Now(); now.After(files.Leaf.NotAfter) || now.Before(files.Leaf.NotBefore) {
		fmt.Fprintf(std.Err, "enroll: by this host's clock, %s, the certificate is not valid (%s to %s): set the clock\n", now.UTC().Format(time.RFC3339), files.Leaf.NotBefore.Format(time.RFC3339), files.Leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// readToken reads a token from a file that others may not read, or from standard input.
func readToken(path string, std Stdio) (string, error) {
	if path != "-" {
		text, err := pki.ReadSecret(path, "token")
		return strings.TrimSpace(string(text)), err
	}
	if std.In == nil {
		return "", errors.New("there is no standard input")
	}
	text, err := io.ReadAll(io.LimitReader(std.In, 4096))
	return strings.TrimSpace(string(text)), err
}

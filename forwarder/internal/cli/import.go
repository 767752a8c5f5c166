package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/importing"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/calltls"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

const importHelp = `Brings this host's old audit logs to the collector, each record once: files, and
folders with all that is below them; plain ones and those of gzip, zstd, xz and
bzip2, whatever their names. The oldest file is read first. Links in folders are
not followed.

A record that the collector has is not stored again, whether the forwarder sent
it, or it came from another file or import. Identical records within one file
stay as many as they are. An import that was interrupted goes on where it was when
the same command is given again; of a file that has grown, what is new is read. It
may run while the forwarder does.

It goes by gRPC, to the first collector that answers, and with the certificate by
which the forwarder sends. All records are kept under the name which that proves,
whatever their node= says; what names another host is flagged, as of records that
are sent. A certificate of the role admin may import any host's: then a record's
host is its node=, or the host that syslog names, or --node.

A host can't take back what it has imported: "collector import --undo NAME" does,
or --undo with a certificate of the role admin. A collector does one import at a
time, and a host waits for its turn.

What is imported is no sign of life of a host, and is in no account of its
completeness.

Exit codes: 0 done, 1 done, but some of it could not be read, 2 not done, or
interrupted.`

const importExample = `  forwarder import /var/log/audit --dry-run
  forwarder import /var/log/audit
  forwarder import --remote collector:6060 --tls-ca ca.crt --tls-cert web1.crt --tls-key web1.key /srv/old/audit.log.*.gz
  forwarder import --list`

// importFlags holds the values of import's flags.
type importFlags struct {
	importing.Command
	remote, node, options string
	tls                   pki.Config
}

func newImportCommand(std Stdio, words []string) *cobra.Command {
	o := &importFlags{Command: importing.Command{OneHost: true, Wait: true}}
	cmd := &cobra.Command{
		Use:     "import [flags] PATH… | --list | --undo NAME",
		Short:   "Bring this host's old logs to the collector, each record once",
		Long:    importHelp,
		Example: importExample,
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd.Flags(), args); err != nil {
				return err
			}
			return coded(o.run(cmd.Context(), std, args, words))
		},
		ValidArgsFunction: completion.By(nil, option.Files),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.remote, "remote", "", "the collector's gRPC address, HOST[:PORT], or several with commas: the first that answers")
	f.StringVar(&o.options, "options", unitOptions, "options with which the forwarder is started, if the file is there; they say what --remote, --tls-ca, --tls-cert, --tls-key and --node do not")
	f.StringVar(&o.tls.CA, "tls-ca", "", "certificates of the CAs that the collector's must come from")
	f.StringVar(&o.tls.Cert, "tls-cert", "", "this host's certificate")
	f.StringVar(&o.tls.Key, "tls-key", "", "the certificate's key")
	f.StringVar(&o.node, "node", "", "the host of records that name none, with a certificate of the role admin")
	o.AddFlags(cmd)
	completion.Flags(cmd, map[string]option.Words{"options": option.Files, "tls-ca": option.Files, "tls-cert": option.Files, "tls-key": option.Files, "format": option.These("text", "json")})
	return cmd
}

// check takes what the command line does not say from the file of options, and says what is wrong.
func (o *importFlags) check(flags *pflag.FlagSet, args []string) error {
	if err := o.Check(args); err != nil {
		return command.Wrong(err)
	}
	started := newRunFlags()
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	started.table().AddFlags(set)
	started.options = o.options
	err := started.readOptions(set)
	if err != nil && (flags.Changed("options") || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)) {
		return err
	}
	from := ""
	for _, v := range []struct {
		flag, value string
		to          *string
	}{
		{"remote", started.remote, &o.remote}, {"tls-ca", started.tls.CA, &o.tls.CA}, {"tls-cert", started.tls.Cert, &o.tls.Cert},
		{"tls-key", started.tls.Key, &o.tls.Key}, {"node", started.node, &o.node},
	} {
		if !flags.Changed(v.flag) && v.value != "" {
			*v.to = v.value
			if v.flag == "remote" {
				from = o.options
			}
		}
	}
	switch {
	case from != "" && started.transport != transportGRPC:
		return command.Wrongf("%s: transport = %s: an import goes by gRPC: give --remote with the address of the collector's --grpc, and --tls-ca, --tls-cert and --tls-key", from, started.transport)
	case o.remote == "":
		return command.Wrongf("--remote is missing: the collector's gRPC address, HOST[:PORT]")
	}
	for _, v := range []struct{ flag, value string }{{"tls-ca", o.tls.CA}, {"tls-cert", o.tls.Cert}, {"tls-key", o.tls.Key}} {
		if v.value == "" {
			return command.Wrongf("--%s is missing: an import needs this host's certificate: `forwarder enroll` gets one", v.flag)
		}
	}
	return nil
}

// run does what is asked, says what is wrong, and returns the exit code.
func (o *importFlags) run(ctx context.Context, std Stdio, args, words []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	o.Start(std.Out, std.Err)
	conn, client, err := o.dial(ctx)
	if err != nil {
		o.Complain("%v", err)
		return importing.ExitNotDone
	}
	defer func() { _ = conn.Close() }() // of a connection that was only used to ask
	t := shipped{client, words}
	if o.List || o.Undo != "" {
		return o.Asked(ctx, t)
	}
	host, _ := os.Hostname() // without one, hosts that import the same paths need --name
	return o.Read(ctx, oldlogs.Config{Paths: args, Node: o.node}, o.Named(args, host, o.tls.Cert), t)
}

// dial connects to the first collector that answers.
func (o *importFlags) dial(ctx context.Context) (*calltls.Conn, *importing.Client, error) {
	port := (&runFlags{transport: transportGRPC}).port()
	servers, err := parseRemote(o.remote, port)
	if err != nil {
		return nil, nil, fmt.Errorf("--remote: %w", err)
	}
	trust, err := pki.Open(o.tls)
	if err != nil {
		return nil, nil, err
	}
	var failed error
	for _, server := range servers {
		conn, err := calltls.Dial(ctx, server, trust.Client(pki.ServerOf(server), "h2"), trust.Explain, rpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 15 * time.Second}))
		if err == nil {
			said := func(err error) error { return answered(server, err) }
			return conn, &importing.Client{Query: fleet.NewQueryClient(conn), Failed: said}, nil
		}
		failed = errors.Join(failed, err)
	}
	return nil, nil, failed
}

// answered words what a collector has answered.
func answered(server string, err error) error {
	st := status.Convert(err)
	switch {
	case st.Code() == codes.Canceled:
		return fmt.Errorf("import: %w", context.Canceled)
	case st.Code() == codes.Unavailable:
		return fmt.Errorf("%s: the connection broke (%s): give the same command again, and it goes on where it was", server, st.Message())
	case st.Code() == codes.PermissionDenied && strings.HasSuffix(st.Message(), "takes the role admin, and its certificate has send"):
		return fmt.Errorf("%s: %s (an older collector takes imports of the role admin only)", server, st.Message())
	}
	return fmt.Errorf("%s: the collector answers: %s", server, st.Message())
}

// shipped are imports by a collector.
type shipped struct {
	*importing.Client
	words []string
}

func (s shipped) BeginImport(ctx context.Context, name string, dry bool) (importing.Sink, string, int64, error) {
	return s.Started(s.Begin(ctx, name, dry, s.words))
}

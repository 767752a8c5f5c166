package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

const (
	// hostLife is how long a host's certificate is valid.
	hostLife = 90 * 24 * time.Hour
	// caLife is how long a new CA is valid: ten years.
	caLife = 3652 * 24 * time.Hour
)

func (p *program) caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Issue, list and revoke certificates of hosts with a small CA of your own",
		Long: `ca keeps a small certificate authority in a folder, for those who have none: its key never leaves it, so it
needs neither be on the collector nor be reachable. Certificates of another CA (cert-manager, step, SPIFFE) do
as well.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := command.NoArgs(cmd, args); err != nil {
				return command.Wrong(err)
			}
			_ = cmd.Help()
			p.code = command.ExitUsage
			return errReported
		},
	}
	cmd.AddCommand(p.caInitCommand(), p.caIssueCommand(), p.caRevokeCommand(), p.caCRLCommand(), p.caListCommand())
	return cmd
}

// caFolder adds --dir to a command that works on a CA.
func caFolder(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "the CA's folder")
	completion.Flags(cmd, map[string]option.Words{"dir": option.Folders})
}

// openCA opens the CA that --dir names, as the user whom it belongs to: the collector that
// issues certificates of it may be another user than root.
func openCA(dir string) (*authority.CA, error) {
	if dir == "" {
		return nil, command.Wrongf("--dir is missing: the CA's folder")
	}
	if err := becomeOwner(dir); err != nil {
		return nil, err
	}
	return authority.Open(authority.Config{Dir: dir})
}

// openCAFor is openCA for a command that also writes elsewhere.
func openCAFor(dir string) (*authority.CA, error) {
	if _, _, other := owner(dir); !other {
		return openCA(dir)
	}
	ca, err := authority.Open(authority.Config{Dir: dir})
	return ca, sayOwner(err, dir)
}

func (p *program) caInitCommand() *cobra.Command {
	var dir, name string
	life := caLife
	cmd := &cobra.Command{
		Use:   "init --dir DIR [--name TEXT] [--life TIME]",
		Short: "Make a CA in a folder",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case dir == "":
				return command.Wrongf("--dir is missing: the folder to make the CA in")
			case life < 24*time.Hour || life > 50*365*24*time.Hour:
				return command.Wrongf("--life %s: a CA lives for a day at least and 50 years at most", span(life))
			}
			ca, err := authority.Init(cmd.Context(), authority.Config{Dir: dir}, name, life)
			if err != nil {
				return fmt.Errorf("ca init: %w", err)
			}
			c := ca.Certificate()
			fmt.Fprintf(p.stdio.Out, "%s: %s, valid until %s\nSHA-256 %s\n", filepath.Join(dir, authority.CertFile), terminal.Clean(c.Subject.CommonName), c.NotAfter.Format(time.DateOnly), ca.Fingerprint())
			return nil
		},
	}
	caFolder(cmd, &dir)
	cmd.Flags().StringVar(&name, "name", "", "the CA's name; one that is drawn unless given")
	cmd.Flags().Var(command.Duration{To: &life}, "life", "how long it is valid: 3652d, 520w")
	return cmd
}

func (p *program) caIssueCommand() *cobra.Command {
	var dir, out, roles string
	r := authority.Request{Life: hostLife}
	cmd := &cobra.Command{
		Use:   "issue NAME --dir DIR --out FOLDER [--dns NAME…] [--ip ADDRESS…] [--role ROLES] [--life TIME]",
		Short: "Issue a certificate for a host: FOLDER/NAME.crt and NAME.key, with ca.crt beside them",
		Long: `issue makes a key and a certificate for a host, valid as a client and as a server. NAME is the name that it proves:
the collector stores records under it. --dns and --ip are what it is called by as a server.

A certificate is in the CA's index before it is written. Nothing is overwritten: to renew one, issue it into another
folder and move key and certificate to where the old ones are; they are taken into use while the programs run.`,
		Args:              command.Args("NAME"),
		ValidArgsFunction: completeCerts(issuedNames),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if r.Roles, err = pki.ParseRoles(roles); err != nil {
				return command.Wrongf("--role: %w", err)
			}
			if out == "" {
				return command.Wrongf("--out is missing: the folder for the certificate and its key")
			}
			ca, err := openCAFor(dir)
			if err != nil {
				return aboutCA("issue", err)
			}
			r.Name = args[0]
			cert, err := ca.Issue(cmd.Context(), r, out)
			if err != nil {
				return aboutCA("issue", err)
			}
			base := filepath.Join(out, cert.DNSNames[0])
			fmt.Fprintf(p.stdio.Out, "%s.crt, %s.key, %s: serial %s, %s, valid until %s\n", base, base, filepath.Join(out, authority.CertFile), pki.Serial(cert.SerialNumber), r.Roles, cert.NotAfter.Format(time.DateOnly))
			p.noteCRL(ca)
			return nil
		},
	}
	caFolder(cmd, &dir)
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "", "the folder for NAME.crt, NAME.key and ca.crt")
	flags.StringSliceVar(&r.DNS, "dns", nil, "further names that it is called by as a server")
	flags.StringSliceVar(&r.IP, "ip", nil, "addresses that it is called by as a server")
	flags.StringVar(&roles, "role", "send", "what its owner may do: send, read, admin, with commas between them")
	flags.Var(command.Duration{To: &r.Life}, "life", "how long it is valid, at most as long as the CA: 90d, 12h")
	completion.Flags(cmd, map[string]option.Words{"out": option.Folders, "role": roleWords})
	return cmd
}

// roleWords are what is offered for --role.
var roleWords = option.Words{Comma: true, List: option.These("send", "read", "admin").List}

// aboutCA says which command an error is of, but for one of its words.
func aboutCA(name string, err error) error {
	var wrong *command.UsageError
	if errors.As(err, &wrong) {
		return err
	}
	return fmt.Errorf("ca %s: %w", name, err)
}

func (p *program) caRevokeCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "revoke NAME|SERIAL --dir DIR",
		Short: "Revoke a certificate by its serial, or all of a name",
		Long: `revoke marks certificates as revoked in the index and adds their serials to the deny list, DIR/revoked. Collectors and
forwarders follow the file that their tls_deny names: copy it there when that is another one. Whose certificate is
revoked is cut off within a second, and can be issued another one.

It also signs another revocation list (CRL), DIR/ca.crl, which other software reads; see collector ca crl.`,
		Args:              command.Args("NAME|SERIAL"),
		ValidArgsFunction: completeCerts(revocable),
		RunE: func(cmd *cobra.Command, args []string) error {
			ca, err := openCA(dir)
			if err != nil {
				return aboutCA("revoke", err)
			}
			list, fresh, err := ca.Revoke(cmd.Context(), args[0])
			if err != nil && !errors.Is(err, authority.ErrCRL) {
				return aboutCA("revoke", err)
			}
			noCRL := err
			for _, e := range list {
				fmt.Fprintf(p.stdio.Out, "%s of %s is revoked since %s\n", e.Serial, e.Name, e.Revoked.Format(time.RFC3339))
			}
			switch {
			case len(list) == 0:
				fmt.Fprintf(p.stdio.Out, "nothing to revoke: all certificates of %s have expired\n", terminal.Clean(args[0]))
			case fresh > 0:
				fmt.Fprintf(p.stdio.Out, "%s has it: collectors that read another file (tls_deny) need a copy\n", ca.Deny())
			}
			if err := p.othersOf(ca, list); err != nil {
				return aboutCA("revoke", err)
			}
			if noCRL != nil {
				return fmt.Errorf("ca revoke: revoked, and in the deny list, but software that reads %s does not know: %w", authority.CRLFile, noCRL)
			}
			if fresh > 0 {
				p.sayCRL(ca)
			}
			p.noteCRL(ca)
			return nil
		},
	}
	caFolder(cmd, &dir)
	return cmd
}

// othersOf says that a host whose certificate was revoked by its serial has others: whoever
// had the key may have renewed it.
func (p *program) othersOf(ca *authority.CA, revoked []authority.Entry) error {
	if len(revoked) == 0 {
		return nil
	}
	all, err := ca.List()
	if err != nil {
		return err
	}
	name, others := revoked[0].Name, 0
	for _, e := range all {
		if e.Name == name && e.State(time.Now()) == "valid" {
			others++
		}
	}
	if others > 0 {
		fmt.Fprintf(p.stdio.Err, "note: %s has other certificates that are valid (%d): if its key was stolen, collector ca revoke %s revokes them, too\n", name, others, name)
	}
	return nil
}

// certRow is a certificate as ca list --format json prints it.
type certRow struct {
	Name        string     `json:"name"`
	Serial      string     `json:"serial"`
	State       string     `json:"state"`
	Roles       []string   `json:"roles"`
	NotBefore   time.Time  `json:"not_before"`
	NotAfter    time.Time  `json:"not_after"`
	Revoked     *time.Time `json:"revoked,omitempty"`
	Fingerprint string     `json:"fingerprint"`
}

func (p *program) caListCommand() *cobra.Command {
	var dir, format string
	cmd := &cobra.Command{
		Use:   "list --dir DIR [--format table|json]",
		Short: "List the certificates that were issued",
		Args:  command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if format != "table" && format != "json" {
				return command.Wrongf("--format %s: it is table or json", format)
			}
			ca, err := openCA(dir)
			if err != nil {
				return aboutCA("list", err)
			}
			list, err := ca.List()
			if err != nil {
				return aboutCA("list", err)
			}
			now := time.Now()
			var rows []any
			cells := [][]string{{"NAME", "SERIAL", "ROLES", "VALID FROM", "UNTIL", "STATE"}}
			for _, e := range list {
				row := certRow{e.Name, e.Serial, e.State(now), strings.Split(e.Roles.String(), ","), e.NotBefore, e.NotAfter, nil, e.Fingerprint}
				if !e.Revoked.IsZero() {
					row.Revoked = &e.Revoked
				}
				rows = append(rows, row)
				cells = append(cells, []string{e.Name, e.Serial, e.Roles.String(), e.NotBefore.Format(time.DateOnly), e.NotAfter.Format(time.DateOnly), row.State})
			}
			if err := p.writeRows(format, rows, cells); err != nil {
				return err
			}
			if _, err := ca.CRL(); err == nil && format == "table" {
				fmt.Fprintln(p.stdio.Out)
				p.sayCRL(ca)
			}
			p.noteCRL(ca)
			return nil
		},
	}
	caFolder(cmd, &dir)
	cmd.Flags().StringVar(&format, "format", "table", "table, or json, an object a line")
	completion.Flags(cmd, map[string]option.Words{"format": option.These("table", "json")})
	return cmd
}

// writeRows writes a list as a table, or as JSON, an object a line.
func (p *program) writeRows(format string, rows []any, cells [][]string) error {
	if format == "json" {
		enc := json.NewEncoder(p.stdio.Out)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(p.stdio.Out, 0, 8, 2, ' ', 0)
	for _, line := range cells {
		for i, c := range line {
			line[i] = terminal.Clean(c)
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}

package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
)

// tokenFlags are what token is told.
type tokenFlags struct {
	dir, roles, format, revoke string
	list                       bool
	ttl, life                  time.Duration
}

func (p *program) tokenCommand() *cobra.Command {
	f := &tokenFlags{ttl: time.Hour, life: hostLife}
	cmd := &cobra.Command{
		Use:   "token HOST --dir DIR [--ttl TIME] [--role ROLES] [--life TIME] | --list [--format table|json] | --revoke ID|HOST",
		Short: "Give a token with which a host gets its certificate, once",
		Long: `token prints a token for a host: with it the host gets one certificate, for that name and no other. It is good
for one use and for --ttl. It also holds the CA's fingerprint, by which the host knows the server it shows the token to.
Only a hash of it is kept: who has the CA's folder cannot read it there, and it cannot be shown again.

--list shows the tokens that were given, --revoke makes one useless by its ID, or all that a host could use.`,
		Args:              command.UpTo(1),
		ValidArgsFunction: completeCerts(issuedNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := p.token(cmd, f, args)
			var wrong *command.UsageError
			if err != nil && !errors.As(err, &wrong) {
				return fmt.Errorf("token: %w", err)
			}
			return err
		},
	}
	caFolder(cmd, &f.dir)
	flags := cmd.Flags()
	flags.Var(command.Duration{To: &f.ttl}, "ttl", "how long it may be used: 1h, 2d")
	flags.StringVar(&f.roles, "role", "send", "what the host may do: send, read, admin, with commas between them")
	flags.Var(command.Duration{To: &f.life}, "life", "how long the certificate is valid: 90d, 12h")
	flags.BoolVar(&f.list, "list", false, "list the tokens that were given")
	flags.StringVar(&f.revoke, "revoke", "", "make a token useless, by its ID, or all of a host")
	flags.StringVar(&f.format, "format", "table", "of --list: table, or json, an object a line")
	completion.Flags(cmd, map[string]option.Words{"role": roleWords, "format": option.These("table", "json"), "revoke": {List: usableTokens(&f.dir)}})
	return cmd
}

func (p *program) token(cmd *cobra.Command, f *tokenFlags, args []string) error {
	roles, err := pki.ParseRoles(f.roles)
	switch {
	case err != nil:
		return command.Wrongf("--role: %w", err)
	case f.format != "table" && f.format != "json":
		return command.Wrongf("--format %s: it is table or json", f.format)
	case f.list && f.revoke != "":
		return command.Wrongf("--list and --revoke: give one of them")
	case (f.list || f.revoke != "") && len(args) > 0:
		return command.Wrongf("unknown argument %q: a token is given without --list and --revoke", args[0])
	case !f.list && f.revoke == "" && len(args) == 0:
		return command.Wrongf("HOST is missing")
	}
	ca, err := openCA(f.dir)
	if err != nil {
		return err
	}
	switch {
	case f.list:
		return p.listTokens(ca, f.format)
	case f.revoke != "":
		return p.revokeToken(cmd, ca, f.revoke)
	}
	t, err := ca.NewToken(cmd.Context(), authority.Request{Name: args[0], Roles: roles, Life: f.life}, f.ttl)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdio.Out, t.Reveal())
	fmt.Fprintf(p.stdio.Err, "token %s: one certificate for %s (%s), until %s\n", t.ID(), t.Host, roles, time.Now().Add(f.ttl).Format(time.RFC3339))
	return nil
}

func (p *program) revokeToken(cmd *cobra.Command, ca *authority.CA, who string) error {
	list, err := ca.RevokeToken(cmd.Context(), who)
	if err != nil {
		return err
	}
	for _, e := range list {
		fmt.Fprintf(p.stdio.Out, "token %s of %s is revoked\n", e.ID, e.Host)
	}
	if len(list) == 0 {
		fmt.Fprintln(p.stdio.Out, "nothing to revoke: it was used, has expired, or is revoked already")
	}
	return nil
}

// tokenRow is a token as token --list --format json prints it.
type tokenRow struct {
	ID      string     `json:"id"`
	Host    string     `json:"host"`
	State   string     `json:"state"`
	Roles   []string   `json:"roles"`
	Created time.Time  `json:"created"`
	Expires time.Time  `json:"expires"`
	Used    *time.Time `json:"used,omitempty"`
	Serial  string     `json:"serial,omitempty"`
	Revoked *time.Time `json:"revoked,omitempty"`
}

func (p *program) listTokens(ca *authority.CA, format string) error {
	list, err := ca.Tokens()
	if err != nil {
		return err
	}
	now := time.Now()
	var rows []any
	cells := [][]string{{"ID", "HOST", "ROLES", "GIVEN", "UNTIL", "STATE", "CERTIFICATE"}}
	for _, e := range list {
		row := tokenRow{ID: e.ID, Host: e.Host, State: e.State(now), Roles: strings.Split(e.Roles.String(), ","), Created: e.Created, Expires: e.Expires, Serial: e.Serial}
		if !e.Used.IsZero() {
			row.Used = &e.Used
		}
		if !e.Revoked.IsZero() {
			row.Revoked = &e.Revoked
		}
		rows = append(rows, row)
		serial := e.Serial
		if serial == "" {
			serial = "-"
		}
		cells = append(cells, []string{e.ID, e.Host, e.Roles.String(), e.Created.Format(time.RFC3339), e.Expires.Format(time.RFC3339), row.State, serial})
	}
	return p.writeRows(format, rows, cells)
}

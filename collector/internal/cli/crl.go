package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
)

// crlSoon is how long before a revocation list is overdue ca issue, ca revoke and ca list say so.
const crlSoon = 30 * 24 * time.Hour

func (p *program) caCRLCommand() *cobra.Command {
	var dir string
	life := authority.CRLLife
	cmd := &cobra.Command{
		Use:   "crl --dir DIR [--life TIME]",
		Short: "Sign another revocation list, DIR/ca.crl, for other software",
		Long: `crl signs the list of what is revoked (CRL) again, with the next number and another date until which it is good, whether
anything has changed or not. revoke writes it, too. Have cron run crl well before that date: what is built on OpenSSL refuses
every certificate once its list is overdue. Our own programs (tls_crl) then go on with what the list revokes, and say so in their log.`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if life < time.Hour || life > 10*365*24*time.Hour {
				return command.Wrongf("--life %s: a revocation list is good for an hour at least and 10 years at most", span(life))
			}
			ca, err := openCA(dir)
			if err == nil {
				_, err = ca.WriteCRL(cmd.Context(), life)
			}
			if err != nil {
				return aboutCA("crl", err)
			}
			p.sayCRL(ca)
			return nil
		},
	}
	caFolder(cmd, &dir)
	cmd.Flags().Var(command.Duration{To: &life}, "life", "how long the list is good: 180d, 26w")
	return cmd
}

// sayCRL prints what the revocation list says of itself, where there is one.
func (p *program) sayCRL(ca *authority.CA) {
	if list, err := ca.CRL(); err == nil {
		fmt.Fprintf(p.stdio.Out, "%s: revocation list number %d, %d revoked, to be replaced by %s\n", list.Path, list.Number, list.Revoked, list.Next.Format(time.RFC3339))
	}
}

// noteCRL warns of a revocation list that is overdue, or soon will be: nobody notices before
// the software that reads it refuses everybody.
func (p *program) noteCRL(ca *authority.CA) {
	list, err := ca.CRL()
	left := time.Duration(0)
	if err == nil {
		left = time.Until(list.Next)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && left > crlSoon:
	case err != nil:
		fmt.Fprintf(p.stdio.Err, "warning: %v\n", err)
	case left < 0:
		fmt.Fprintf(p.stdio.Err, "warning: %s is overdue since %s: what is built on OpenSSL refuses every certificate with it: collector ca crl --dir %s\n",
			list.Path, list.Next.Format(time.RFC3339), ca.Dir())
	default:
		fmt.Fprintf(p.stdio.Err, "note: %s is to be replaced by %s: collector ca crl --dir %s, before what is built on OpenSSL refuses every certificate\n",
			list.Path, list.Next.Format(time.RFC3339), ca.Dir())
	}
}

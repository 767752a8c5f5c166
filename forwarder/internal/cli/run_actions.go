package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

// actions checks at the start that the actions of the file can be done: one that could
// not be done when it is needed is refused now.
func (o *runFlags) actions(ctx context.Context, cfg *agent.Config, ac conf.Auditd, f *conf.File, logger hclog.Logger) error {
	cfg.Actions = action.Config{MailTo: ac.ActionMailAcct, AllowHalt: o.allowHalt}
	runner := action.New(cfg.Actions)
	defer runner.Close() //nolint:errcheck // it has done nothing
	type keyed struct {
		key    string
		action conf.Action
	}
	var keys []keyed
	if cfg.Log.Path != "" {
		keys = append(keys,
			keyed{"space_left_action", ac.SpaceLeftAction}, keyed{"admin_space_left_action", ac.AdminSpaceLeftAction},
			keyed{"disk_full_action", ac.DiskFullAction}, keyed{"disk_error_action", ac.DiskErrorAction})
	}
	if o.source == agent.SourceKernel {
		keys = append(keys, keyed{"overflow_action", ac.OverflowAction})
	}
	for _, k := range keys {
		err := runner.Check(k.key, k.action)
		if err == nil {
			continue
		}
		if f != nil {
			err = fmt.Errorf("%s:%d: %w", f.Path, f.Line(k.key), err)
		}
		if !errors.Is(err, action.ErrMail) {
			return fmt.Errorf("--config: %w", err)
		}
		// The stock daemon runs without a mailer too: better audited than not.
		logger.Warn("this action can do nothing but tell syslog", "error", err)
	}
	if f != nil && f.Has("action_mail_acct") && ac.VerifyEmail {
		if err := verifyDomain(ctx, ac.ActionMailAcct); err != nil {
			// As with the stock daemon: better audited than not.
			logger.Warn("the domain of action_mail_acct could not be verified", "file", f.Path, "line", f.Line("action_mail_acct"), "error", err)
		}
	}
	return nil
}

// verifyDomain looks up an address' domain, if it has one.
func verifyDomain(ctx context.Context, address string) error {
	_, domain, remote := strings.Cut(address, "@")
	if !remote {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var r net.Resolver
	_, err := r.LookupHost(ctx, domain)
	if err == nil {
		return nil
	}
	if mx, mxErr := r.LookupMX(ctx, domain); mxErr == nil && len(mx) > 0 {
		return nil
	}
	return err
}

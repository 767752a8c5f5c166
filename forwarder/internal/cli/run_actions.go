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

// actions checks at the start what would be needed when something is wrong: an
// action that can't be done then is refused now.
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
		if err := runner.Check(k.key, k.action); err != nil {
			if f != nil {
				return fmt.Errorf("--config: %s:%d: %w", f.Path, f.Line(k.key), err)
			}
			return err
		}
	}
	if f != nil && f.Has("action_mail_acct") && ac.VerifyEmail {
		if err := verifyDomain(ctx, ac.ActionMailAcct, logger); err != nil {
			return fmt.Errorf("--config: %w", &conf.Error{File: f.Path, Line: f.Line("action_mail_acct"), Key: "action_mail_acct", Msg: err.Error(), Hint: "verify_email = no does not look it up"})
		}
	}
	return nil
}

// verifyDomain looks up an address' domain. Only a domain that is known not to be
// there is an error: a resolver that is down must not keep a host unaudited.
func verifyDomain(ctx context.Context, address string, logger hclog.Logger) error {
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
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return fmt.Errorf("the domain %s is not known", domain)
	}
	logger.Warn("action_mail_acct could not be verified", "domain", domain, "error", err)
	return nil
}

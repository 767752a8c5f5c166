package cli

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship/grpc"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship/remote"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

// remoteDefaults are the stock defaults, but for those that lose records: an action that
// is not in audisp-remote.conf keeps the records and goes on trying for ever.
func remoteDefaults() conf.Remote {
	rc := conf.DefaultRemote()
	warn := conf.Action{Do: conf.DoWarnOnce}
	rc.NetworkFailureAction, rc.GenericErrorAction, rc.QueueErrorAction = warn, warn, warn
	return rc
}

// shipping makes the sender's configuration and the actions for its troubles, at the
// start and again on SIGHUP. Where no server is named, cfg.Ship stays nil.
func (o *runFlags) shipping(cfg *agent.Config, given func(string) bool, logger hclog.Logger) error {
	rc := remoteDefaults()
	sc := ship.Config{Window: o.window, Probe: o.probe}
	if given("remote-config") || o.remoteConfig != "" {
		f, err := o.remoteFile(&rc, &sc, logger)
		if err != nil {
			return err
		}
		if err := o.remoteActions(rc, f, logger); err != nil {
			return err
		}
	}
	cfg.Remote = agent.RemoteActions{
		NetworkFailure: rc.NetworkFailureAction, StartupFailure: rc.StartupFailureAction, RemoteEnding: rc.RemoteEndingAction,
		DiskLow: rc.DiskLowAction, DiskFull: rc.DiskFullAction, DiskError: rc.DiskErrorAction,
		GenericError: rc.GenericErrorAction, GenericWarning: rc.GenericWarningAction,
		QueueError: rc.QueueErrorAction, Overflow: rc.OverflowAction,
		MaxTries: rc.MaxTriesPerRecord, MaxTime: rc.MaxTimePerRecord,
	}
	if given("remote") {
		servers, err := parseRemote(o.remote, o.port())
		if err != nil {
			return command.Wrongf("--remote: %w", err)
		}
		sc.Servers = servers
	}
	if len(sc.Servers) == 0 {
		return nil
	}
	if most := o.maxWindow(); o.window > most {
		return command.Wrongf("--window: %d is too large: at most %d with --transport %s", o.window, most, o.transport)
	}
	if o.transport == transportGRPC {
		t, err := o.openGRPC(logger)
		if err != nil {
			return err
		}
		cfg.Renew = o.renew(o.grpcTrust, sc.Servers, logger)
		sc.Transport, cfg.Witness = t, o.witness
		cfg.Ship = &sc
		return nil
	}
	format := rc.Format
	if o.format != "" {
		format = o.format
	}
	transport := remote.Transport{LocalPort: rc.LocalPort}
	if format == conf.FormatASCII {
		transport.Format = remote.ASCII
	}
	trust, err := o.secure(&transport, &rc, given, logger)
	if err != nil {
		return err
	}
	cfg.Renew = o.renew(trust, sc.Servers, logger)
	sc.Transport = transport
	cfg.Ship = &sc
	return nil
}

// port is that of servers without one.
func (o *runFlags) port() int {
	if o.transport == transportGRPC {
		return 6060
	}
	return 60
}

// maxWindow is the transport's.
func (o *runFlags) maxWindow() int {
	if o.transport == transportGRPC {
		return grpc.MaxWindow
	}
	return ship.MaxWindow
}

// remoteFile reads audisp-remote.conf over what rc has.
func (o *runFlags) remoteFile(rc *conf.Remote, sc *ship.Config, logger hclog.Logger) (*conf.File, error) {
	f, err := conf.LoadSecure(o.remoteConfig, remoteTable(rc).Schema())
	if f != nil {
		err = rc.Validate(f)
	}
	if err != nil {
		return nil, fmt.Errorf("--remote-config: %w", err)
	}
	warn(f, logger)
	if len(rc.Servers) == 0 && o.remote == "" {
		return nil, fmt.Errorf("--remote-config: %s: remote_server is empty: set it to the collector's name, or give --remote", o.remoteConfig)
	}
	if len(rc.Servers) > 0 {
		list := make([]string, len(rc.Servers))
		for i, s := range rc.Servers {
			list[i] = withPort(s, rc.Port)
		}
		if sc.Servers, err = parseRemote(strings.Join(list, ","), o.port()); err != nil {
			line := f.Line("remote_server")
			if rc.Port == 0 {
				line = f.Line("port")
			}
			return nil, fmt.Errorf("--remote-config: %s:%d: %w", f.Path, line, err)
		}
	}
	// The file's pause is a fixed one, and a reply may take as long as a record
	// may, as with the stock sender.
	if f.Has("network_retry_time") {
		sc.BackoffMin, sc.BackoffMax = rc.NetworkRetryTime, rc.NetworkRetryTime
	}
	if f.Has("max_time_per_record") {
		sc.ReplyTimeout = rc.MaxTimePerRecord
		sc.ConnectTimeout = min(rc.MaxTimePerRecord, ship.DefaultConnectTimeout)
	}
	sc.Heartbeat = rc.HeartbeatTimeout
	for _, k := range []string{"queue_file", "queue_depth", "mode"} {
		if f.Has(k) {
			logger.Debug("a key has no effect: every record goes through the spool, which is bounded in bytes (--spool, --spool-size)", "file", f.Path, "line", f.Line(k), "key", k)
		}
	}
	return f, nil
}

// remoteActions refuses actions that could not be done, and logs which of those in the
// file lose records or end shipping.
func (o *runFlags) remoteActions(rc conf.Remote, f *conf.File, logger hclog.Logger) error {
	runner := action.New(action.Config{AllowHalt: o.allowHalt})
	defer runner.Close() //nolint:errcheck // it has done nothing
	for _, k := range []struct {
		key    string
		action conf.Action
		// refused: the record is one that the server has not stored.
		refused bool
	}{
		{"network_failure_action", rc.NetworkFailureAction, true},
		{"disk_low_action", rc.DiskLowAction, false},
		{"disk_full_action", rc.DiskFullAction, true},
		{"disk_error_action", rc.DiskErrorAction, true},
		{"remote_ending_action", rc.RemoteEndingAction, false},
		{"generic_error_action", rc.GenericErrorAction, true},
		{"generic_warning_action", rc.GenericWarningAction, false},
		{"queue_error_action", rc.QueueErrorAction, false},
		{"overflow_action", rc.OverflowAction, false},
		{"startup_failure_action", rc.StartupFailureAction, false},
	} {
		if !f.Has(k.key) {
			continue
		}
		if err := runner.Check(k.key, k.action); err != nil {
			return fmt.Errorf("--remote-config: %s:%d: %w", f.Path, f.Line(k.key), err)
		}
		switch k.action.Do {
		case conf.DoStop, conf.DoSuspend:
			logger.Info("this action ends shipping until SIGUSR2 or SIGHUP; without the key, records are kept and tried for ever", "file", f.Path, "line", f.Line(k.key), "action", k.key+" = "+k.action.String())
		case conf.DoIgnore, conf.DoSyslog, conf.DoExec, conf.DoWarnOnceContinue:
			if k.refused {
				logger.Info("this action gives up the record it is done for, as audisp-remote.conf(5) has it; warn_once keeps it", "file", f.Path, "line", f.Line(k.key), "action", k.key+" = "+k.action.String())
			}
		}
	}
	return nil
}

// withPort adds the file's port to a server that has none of its own.
func withPort(server string, port int) string {
	if _, _, err := net.SplitHostPort(server); err == nil {
		return server
	}
	return net.JoinHostPort(strings.Trim(server, "[]"), strconv.Itoa(port))
}

// parseRemote checks a list of servers.
func parseRemote(s string, port int) ([]string, error) {
	var servers []string
	for _, one := range strings.Split(s, ",") {
		one = strings.TrimSpace(one)
		if one == "" {
			return nil, fmt.Errorf("%q: an empty server; want HOST[:PORT][,HOST[:PORT]…]", s)
		}
		host, port, err := net.SplitHostPort(withPort(one, port))
		_, notIP := netip.ParseAddr(host)
		if err != nil || host == "" || strings.ContainsAny(host, " /\t") || strings.Contains(host, ":") && notIP != nil {
			return nil, fmt.Errorf("%q: want HOST[:PORT], an IPv6 address in brackets", one)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("%q: port %q: want a number from 1 to 65535", one, port)
		}
		servers = append(servers, net.JoinHostPort(host, port))
	}
	return servers, nil
}

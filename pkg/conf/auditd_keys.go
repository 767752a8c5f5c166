package conf

import (
	"errors"
	"fmt"
	"github.com/auditfleet/auditfleet/pkg/psktls"
	"math"
	"os"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/nss"
	"golang.org/x/sys/unix"
)

// OwnHostKeys returns the keys of a host that this project adds; the stock daemon refuses
// a file that has them.
func (a *Auditd) OwnHostKeys() Schema {
	return Schema{
		Enum("log_compress", &a.LogCompress, CompressNone, CompressZstd),
		Enum("rotated_names", &a.RotatedNames, NamesNumbers, NamesDated),
		Enum("queue_full_action", &a.QueueFull, QueueFullAuto, QueueFullWait, QueueFullDrop),
	}
}

// HostSchema returns the keys of an auditd.conf that the programs of a host read: the
// stock keys, this project's keys for a host, and the collector's keys, which have no
// effect there.
func (a *Auditd) HostSchema() Schema {
	return append(append(a.Schema(), a.OwnHostKeys()...), IgnoredOnHost()...)
}

// IgnoredOnHost returns CollectorKeys as keys that are accepted and have no effect.
func IgnoredOnHost() (s Schema) {
	for _, name := range CollectorKeys {
		s = append(s, Ignored(name, "is for collector serve and has no effect on a host"))
	}
	return s
}

const (
	maxInt  = math.MaxInt32
	krb5Why = "not supported: no Kerberos here; use our TLS transport (tls_ca, tls_cert, tls_key)"
)

// Schema returns the stock keys of auditd.conf; each stores its value in a. A program
// with additional keys appends them.
func (a *Auditd) Schema() Schema {
	spaceActions := []Do{DoIgnore, DoSyslog, DoRotate, DoEmail, DoExec, DoSuspend, DoSingle, DoHalt}
	fullActions := []Do{DoIgnore, DoSyslog, DoRotate, DoExec, DoSuspend, DoSingle, DoHalt}
	errorActions := []Do{DoIgnore, DoSyslog, DoExec, DoSuspend, DoSingle, DoHalt}
	return append(Schema{
		YesNo("local_events", &a.LocalEvents),
		YesNo("write_logs", &a.WriteLogs),
		Path("log_file", &a.LogFile),
		deprecated(Enum("log_format", &a.LogFormat, LogRaw, LogEnriched, LogNone), string(LogNone), "nolog is deprecated: set write_logs = no"),
		{Name: "log_group", Set: func(v string) (err error) { a.LogGroup, err = groupID(v); return err }},
		Int("priority_boost", &a.PriorityBoost, 0, maxInt),
		Enum("flush", &a.Flush, FlushNone, FlushIncremental, FlushIncrementalAsync, FlushData, FlushSync),
		Int("freq", &a.Freq, 0, maxInt),
		Int("num_logs", &a.NumLogs, 0, 999),
		Int("max_log_file", &a.MaxLogFile, 0, math.MaxUint64>>20),
		ActionKey("max_log_file_action", &a.MaxLogFileAction, nil, DoIgnore, DoSyslog, DoSuspend, DoRotate, DoKeepLogs),
		Enum("name_format", &a.NameFormat, NameNone, NameHostname, NameFQD, NameNumeric, NameUser),
		Word("name", &a.Name),
		YesNo("verify_email", &a.VerifyEmail),
		{Name: "action_mail_acct", Get: func() string { return a.ActionMailAcct }, Set: func(v string) error { a.ActionMailAcct = v; return mailAddress(v) }},
		SpaceKey("space_left", &a.SpaceLeft),
		ActionKey("space_left_action", &a.SpaceLeftAction, Executable, spaceActions...),
		SpaceKey("admin_space_left", &a.AdminSpaceLeft),
		ActionKey("admin_space_left_action", &a.AdminSpaceLeftAction, Executable, spaceActions...),
		ActionKey("disk_full_action", &a.DiskFullAction, Executable, fullActions...),
		ActionKey("disk_error_action", &a.DiskErrorAction, Executable, errorActions...),
	}, a.serverKeys()...)
}

// serverKeys are the aggregating server's and the dispatcher's.
func (a *Auditd) serverKeys() Schema {
	return append(Schema{
		Int("tcp_listen_port", &a.TCPListenPort, 1, 65535),
		Int("tcp_listen_queue", &a.TCPListenQueue, 1, 65535),
		Int("tcp_max_per_addr", &a.TCPMaxPerAddr, 1, 1024),
		YesNo("use_libwrap", &a.UseLibwrap),
		PortsKey("tcp_client_ports", &a.TCPClientPorts),
		Seconds("tcp_client_max_idle", &a.TCPClientMaxIdle, 0, maxInt),
		transportKey(&a.Transport),
		Refused("enable_krb5", krb5Why, "no"),
		Ignored("krb5_principal", ""),
		Ignored("krb5_key_file", ""),
		tlsKey("tls_allowed_clients", &a.TLS.AllowedClients, func(s *psktls.Settings) *string { return &s.AllowedClients }),
		YesNo("distribute_network", &a.DistributeNetwork),
		Int("q_depth", &a.QDepth, 0, 99999),
		ActionKey("overflow_action", &a.OverflowAction, nil, DoIgnore, DoSyslog, DoSuspend, DoSingle, DoHalt),
		Int("max_restarts", &a.MaxRestarts, 0, maxInt),
		Path("plugin_dir", &a.PluginDir),
		Seconds("end_of_event_timeout", &a.EndOfEventTimeout, 0, 1<<33),
		{Name: "report_interval", Set: func(v string) (err error) { a.ReportInterval, err = reportInterval(v); return err }},
		Ignored("dispatcher", "is deprecated and has no effect"),
		Ignored("disp_qos", "is deprecated and has no effect"),
	}, stockTLSKeys(&a.TLS)...)
}

// stockTLSKeys are audit 4.2's, for TLS with pre-shared keys. Package psktls knows what
// their values mean.
func stockTLSKeys(t *psktls.Settings) Schema {
	return Schema{
		tlsKey("tls_auth", &t.Auth, func(s *psktls.Settings) *string { return &s.Auth }),
		tlsKey("tls_crypto_profile", &t.CryptoProfile, func(s *psktls.Settings) *string { return &s.CryptoProfile }),
		tlsKey("tls_psk_file", &t.PSKFile, func(s *psktls.Settings) *string { return &s.PSKFile }),
		tlsKey("tls_psk_identity", &t.PSKIdentity, func(s *psktls.Settings) *string { return &s.PSKIdentity }),
		tlsKey("tls_cipher_suites", &t.CipherSuites, func(s *psktls.Settings) *string { return &s.CipherSuites }),
		tlsKey("tls_key_exchange", &t.KeyExchange, func(s *psktls.Settings) *string { return &s.KeyExchange }),
		YesNo("tls_require_pqc", &t.RequirePQC),
	}
}

// tlsKey is a key whose value psktls checks by itself. What two of them make together is
// checked when they are used.
func tlsKey(name string, to *string, field func(*psktls.Settings) *string) Key {
	return Key{Name: name, Get: func() string { return *to }, Set: func(v string) error {
		var s psktls.Settings
		*field(&s) = v
		if err := s.Check(); err != nil {
			var wrong *psktls.SettingError
			if errors.As(err, &wrong) {
				err = wrong.Err
			}
			return err
		}
		*to = v
		return nil
	}}
}

func transportKey(to *Transport) Key {
	return Key{Name: "transport", OneOf: []string{string(TransportTCP), string(TransportTLS)}, Get: func() string { return string(*to) }, Set: func(v string) error {
		t, err := oneOf(v, []Transport{TransportTCP, TransportKRB5, TransportTLS})
		switch {
		case err != nil:
			return err
		case t == TransportKRB5:
			return errors.New(krb5Why)
		}
		*to = t
		return nil
	}}
}

func deprecated(k Key, value, why string) Key {
	k.Note = func(v string) string {
		if strings.EqualFold(v, value) {
			return why
		}
		return ""
	}
	return k
}

func groupID(v string) (int, error) {
	if n, err := number(v, 0, 1<<32-2); err == nil {
		return int(n), nil
	}
	gid, ok := nss.New(nss.Config{}).GroupID(v)
	if !ok {
		return 0, fmt.Errorf("no group %q", clip(v))
	}
	return int(gid), nil
}

// mailAddress accepts a local account, or account@domain with a dot in it, of
// the characters that are safe on a mailer's command line.
func mailAddress(v string) error {
	for _, r := range v {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@.-_+", r)) {
			return fmt.Errorf("%q has the character %q, which no address may have here", clip(v), r)
		}
	}
	account, domain, remote := strings.Cut(v, "@")
	if account == "" || strings.HasPrefix(account, "-") {
		return fmt.Errorf("%q is not an address", clip(v))
	}
	if remote && (!strings.Contains(domain, ".") || strings.Contains(domain, "@")) {
		return fmt.Errorf("%q needs one @ and a domain with a dot", clip(v))
	}
	return nil
}

// reportInterval reads 4.x's report_interval: a number of seconds, or with m, h,
// d or M (minutes, hours, days, months of 30 days); at most 40 days.
func reportInterval(v string) (time.Duration, error) {
	units := map[byte]time.Duration{
		's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'M': 30 * 24 * time.Hour,
	}
	unit, digits := time.Second, v
	if u, ok := units[v[len(v)-1]]; ok {
		unit, digits = u, v[:len(v)-1]
	}
	const most = 40 * 24 * time.Hour
	n, err := number(digits, 0, uint64(most/unit))
	if err != nil {
		return 0, fmt.Errorf("want a number, or one with m, h, d or M: %w", err)
	}
	return time.Duration(n) * unit, nil
}

// Executable checks a program that an action or a plugin will run. It must be a regular,
// executable file that belongs to root or the running user and that nobody else may
// write.
func Executable(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is not a regular file", path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to uid %d, not root", path, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s can be changed by others: mode %04o", path, st.Mode&0o7777)
	case st.Mode&0o111 == 0:
		return fmt.Errorf("%s is not executable", path)
	}
	return nil
}

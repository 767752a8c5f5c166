package conf

import (
	"errors"
	"fmt"
	"github.com/auditfleet/auditfleet/pkg/psktls"
	"math"
	"strings"
	"time"
)

// Mode is the strategy by which records are sent.
type Mode string

// Format is the format of records on the wire.
type Format string

// The modes and formats of audisp-remote.conf, and of plugins.
const (
	ModeImmediate Mode = "immediate"
	ModeForward   Mode = "forward"

	FormatManaged Format = "managed"
	FormatASCII   Format = "ascii"
	FormatString  Format = "string"
	FormatBinary  Format = "binary"
)

// Remote holds the values of audisp-remote.conf(5), every key of 3.0.9 and 4.2.
type Remote struct {
	Servers   []string // stock has one; several, separated by commas, are tried in order
	Port      int
	LocalPort int // 0: any
	Transport Transport
	TLS       psktls.Settings // of transport = tls
	Mode      Mode
	QueueFile string
	// QueueDepth is a number of records.
	QueueDepth int
	Format     Format

	NetworkRetryTime  time.Duration
	MaxTriesPerRecord int
	MaxTimePerRecord  time.Duration
	HeartbeatTimeout  time.Duration // 0: none

	NetworkFailureAction Action
	DiskLowAction        Action
	DiskFullAction       Action
	DiskErrorAction      Action
	RemoteEndingAction   Action
	GenericErrorAction   Action
	GenericWarningAction Action
	QueueErrorAction     Action
	OverflowAction       Action
	StartupFailureAction Action
}

// DefaultRemote returns the values that the stock sender assumes for keys that are not
// set.
func DefaultRemote() Remote {
	return Remote{
		Port: 60, Transport: TransportTCP, Mode: ModeImmediate,
		QueueFile: "/var/spool/audit/remote.log", QueueDepth: 2048, Format: FormatManaged,
		NetworkRetryTime: time.Second, MaxTriesPerRecord: 3, MaxTimePerRecord: 5 * time.Second,
		NetworkFailureAction: Action{Do: DoStop},
		DiskLowAction:        Action{Do: DoIgnore},
		DiskFullAction:       Action{Do: DoWarnOnce},
		DiskErrorAction:      Action{Do: DoWarnOnce},
		RemoteEndingAction:   Action{Do: DoReconnect},
		GenericErrorAction:   Action{Do: DoSyslog},
		GenericWarningAction: Action{Do: DoSyslog},
		QueueErrorAction:     Action{Do: DoStop},
		OverflowAction:       Action{Do: DoSyslog},
		StartupFailureAction: Action{Do: DoWarnOnceContinue},
	}
}

// Schema returns the keys of audisp-remote.conf; each stores its value in r.
func (r *Remote) Schema() Schema {
	failure := []Do{DoIgnore, DoSyslog, DoExec, DoWarnOnce, DoWarnOnceContinue, DoSuspend, DoSingle, DoHalt, DoStop}
	action := func(name string, to *Action, allowed ...Do) Key {
		return ActionKey(name, to, Executable, allowed...)
	}
	// The shipped file has an empty remote_server, to be filled in.
	servers := Key{Name: "remote_server", Words: -1, Empty: func() { r.Servers = nil }, Set: func(v string) error {
		list := strings.Split(v, ",")
		for i, s := range list {
			if list[i] = strings.TrimSpace(s); list[i] == "" {
				return errors.New("an empty server: want HOST[:PORT][,HOST[:PORT]...]")
			}
			if strings.Contains(list[i], " ") {
				return fmt.Errorf("%q is two words: servers are separated by commas", clip(list[i]))
			}
		}
		r.Servers = list
		return nil
	}}
	return append(Schema{
		servers,
		Int("port", &r.Port, 0, 65535),
		{Name: "local_port", Set: func(v string) error {
			if _, err := oneOf(v, []string{"any"}); err == nil {
				r.LocalPort = 0
				return nil
			}
			n, err := number(v, 0, 65535)
			r.LocalPort = int(n)
			return err
		}},
		transportKey(&r.Transport),
		Enum("mode", &r.Mode, ModeImmediate, ModeForward),
		Path("queue_file", &r.QueueFile),
		Int("queue_depth", &r.QueueDepth, 1, math.MaxInt32),
		Enum("format", &r.Format, FormatManaged, FormatASCII),
		Seconds("network_retry_time", &r.NetworkRetryTime, 1, maxInt),
		Int("max_tries_per_record", &r.MaxTriesPerRecord, 1, maxInt),
		Seconds("max_time_per_record", &r.MaxTimePerRecord, 1, maxInt),
		Seconds("heartbeat_timeout", &r.HeartbeatTimeout, 0, maxInt),
		action("network_failure_action", &r.NetworkFailureAction, failure...),
		action("disk_low_action", &r.DiskLowAction, failure...),
		action("disk_full_action", &r.DiskFullAction, failure...),
		action("disk_error_action", &r.DiskErrorAction, failure...),
		action("remote_ending_action", &r.RemoteEndingAction, append(failure[:len(failure):len(failure)], DoReconnect)...),
		action("generic_error_action", &r.GenericErrorAction, failure...),
		action("generic_warning_action", &r.GenericWarningAction, failure...),
		action("queue_error_action", &r.QueueErrorAction, failure...),
		ActionKey("overflow_action", &r.OverflowAction, nil, DoIgnore, DoSyslog, DoSuspend, DoSingle, DoHalt),
		action("startup_failure_action", &r.StartupFailureAction, DoIgnore, DoSyslog, DoExec, DoWarnOnce, DoWarnOnceContinue),
		Refused("enable_krb5", krb5Why, "no"),
		Ignored("krb5_principal", "has no effect: Kerberos is not supported"),
		Ignored("krb5_client_name", "has no effect: Kerberos is not supported"),
		Ignored("krb5_key_file", "has no effect: Kerberos is not supported"),
	}, stockTLSKeys(&r.TLS)...)
}

// LoadRemote reads path with LoadSecure; keys that are not set have the stock defaults.
// The File is nil only if nothing could be read. The caller must check whether
// remote_server is set, because a flag may name the server.
func LoadRemote(path string) (Remote, *File, error) {
	r := DefaultRemote()
	f, err := LoadSecure(path, r.Schema())
	if f == nil {
		return r, nil, err
	}
	return r, f, r.Validate(f)
}

// Validate checks rules that concern several keys and returns all errors of f.
func (r *Remote) Validate(f *File) error {
	if r.Mode == ModeForward && r.Format == FormatASCII {
		f.Errorf(firstSet(f, "format", "mode"), "mode = forward needs format = managed: ascii has no acknowledgements")
	}
	if r.HeartbeatTimeout > 0 && r.Format == FormatASCII {
		f.Warnf("heartbeat_timeout", "has no effect with format = ascii")
	}
	return f.Err()
}

package conf

import (
	"github.com/auditfleet/auditfleet/pkg/psktls"
	"path/filepath"
	"time"
)

// Flush says when written records are forced to disk.
type Flush string

// The stock flush modes.
const (
	FlushNone             Flush = "none"
	FlushIncremental      Flush = "incremental"
	FlushIncrementalAsync Flush = "incremental_async"
	FlushData             Flush = "data"
	FlushSync             Flush = "sync"
)

// LogFormat is the format of the local log.
type LogFormat string

// The stock log formats; nolog is the deprecated write_logs = no.
const (
	LogRaw      LogFormat = "raw"
	LogEnriched LogFormat = "enriched"
	LogNone     LogFormat = "nolog"
)

// NameFormat says from what the value of `node=` is made.
type NameFormat string

// The stock name formats.
const (
	NameNone     NameFormat = "none"
	NameHostname NameFormat = "hostname"
	NameFQD      NameFormat = "fqd"
	NameNumeric  NameFormat = "numeric"
	NameUser     NameFormat = "user"
)

// Transport is the protocol by which records are sent.
type Transport string

// The transports the stock files know. tcp is what this package's structs
// accept, but for Kerberos, which is not built in. tls is TLS with pre-shared keys.
const (
	TransportTCP  Transport = "tcp"
	TransportKRB5 Transport = "krb5"
	TransportTLS  Transport = "tls"
)

// LogCompress says how rotated logs are compressed.
type LogCompress string

// RotatedNames says how rotated logs are named.
type RotatedNames string

// QueueFull says what happens to the kernel's records while the queue between the kernel
// and the disk is full.
type QueueFull string

// The values of our own keys for a host. The first of each is the stock daemon's way,
// or as near to it as can be.
const (
	CompressNone LogCompress  = "none"
	CompressZstd LogCompress  = "zstd"
	NamesNumbers RotatedNames = "numbers"
	NamesDated   RotatedNames = "dated"

	QueueFullAuto QueueFull = "auto" // as the failure mode and overflow_action have it
	QueueFullWait QueueFull = "wait"
	QueueFullDrop QueueFull = "drop"
)

// Auditd holds the values of auditd.conf(5): every key of 3.0.9 and 4.2, and those of
// this project that have an effect on a host only (OwnHostKeys).
type Auditd struct {
	LocalEvents bool
	WriteLogs   bool
	LogFile     string
	LogFormat   LogFormat
	LogGroup    int // gid

	PriorityBoost int
	Flush         Flush
	Freq          int // records

	NumLogs          int
	MaxLogFile       uint64 // MiB
	MaxLogFileAction Action

	NameFormat NameFormat
	Name       string

	VerifyEmail          bool
	ActionMailAcct       string
	SpaceLeft            Space
	SpaceLeftAction      Action
	AdminSpaceLeft       Space
	AdminSpaceLeftAction Action
	DiskFullAction       Action
	DiskErrorAction      Action

	TCPListenPort    int // 0: do not listen
	TCPListenQueue   int
	TCPMaxPerAddr    int
	UseLibwrap       bool
	TCPClientPorts   Ports
	TCPClientMaxIdle time.Duration
	Transport        Transport
	TLS              psktls.Settings // of transport = tls

	DistributeNetwork bool
	QDepth            int // records
	OverflowAction    Action
	MaxRestarts       int
	PluginDir         string

	EndOfEventTimeout time.Duration
	ReportInterval    time.Duration // 4.x; 0: no reports

	LogCompress  LogCompress
	RotatedNames RotatedNames
	QueueFull    QueueFull
}

// DefaultAuditd returns the values that the stock daemon assumes for keys that are not
// set. The file that distributions ship sets some of them to other values.
func DefaultAuditd() Auditd {
	return Auditd{
		LocalEvents: true, WriteLogs: true,
		LogFile: "/var/log/audit/audit.log", LogFormat: LogEnriched,
		PriorityBoost: 4, Flush: FlushIncrementalAsync,
		MaxLogFileAction: Action{Do: DoIgnore}, NameFormat: NameNone,
		VerifyEmail: true, ActionMailAcct: "root",
		SpaceLeftAction: Action{Do: DoIgnore}, AdminSpaceLeftAction: Action{Do: DoIgnore},
		DiskFullAction: Action{Do: DoIgnore}, DiskErrorAction: Action{Do: DoSyslog},
		TCPListenQueue: 5, TCPMaxPerAddr: 1, UseLibwrap: true, Transport: TransportTCP,
		QDepth: 2000, OverflowAction: Action{Do: DoSyslog}, MaxRestarts: 10,
		PluginDir: "/etc/audit/plugins.d", EndOfEventTimeout: 2 * time.Second,
		LogCompress: CompressNone, RotatedNames: NamesNumbers, QueueFull: QueueFullAuto,
	}
}

// LoadAuditd reads the auditd.conf of a host with LoadSecure; keys that are not set have
// the stock defaults. The File is nil only if nothing could be read.
func LoadAuditd(path string) (Auditd, *File, error) {
	return loadAuditd(path, LoadSecure)
}

// LoadAuditdLinked is LoadAuditd for a path that may be a symbolic link, as in
// LoadLinked.
func LoadAuditdLinked(path string) (Auditd, *File, error) {
	return loadAuditd(path, LoadLinked)
}

func loadAuditd(path string, load func(string, Schema) (*File, error)) (Auditd, *File, error) {
	a := DefaultAuditd()
	f, err := load(path, a.HostSchema())
	if f == nil {
		return a, nil, err
	}
	return a, f, a.Validate(f)
}

// Validate checks rules that concern several keys and returns all errors of f.
func (a *Auditd) Validate(f *File) error {
	if a.LogFormat == LogNone {
		a.WriteLogs = false
	}
	if a.NameFormat == NameUser && a.Name == "" {
		f.Errorf("name_format", "user needs the name in the key name")
	}
	if filepath.Dir(filepath.Clean(a.LogFile)) == "/" {
		f.Errorf("log_file", "%s lies in the root folder", a.LogFile)
	}
	// The stock daemon compares absolute numbers only: percentages are known
	// once the filesystem is. Two percentages can be compared here.
	s, adm := a.SpaceLeft, a.AdminSpaceLeft
	set := f.Has("space_left") || f.Has("admin_space_left")
	if set && ((s.Percent == 0 && adm.Percent == 0 && s.MiB <= adm.MiB) ||
		(s.Percent > 0 && adm.Percent > 0 && s.Percent <= adm.Percent)) {
		f.Errorf(firstSet(f, "admin_space_left", "space_left"),
			"space_left (%s) must be larger than admin_space_left (%s)", s, adm)
	}
	if f.Has("q_depth") && a.QDepth < 512 {
		f.Warnf("q_depth", "should be at least 512 for a margin")
	}
	return f.Err()
}

func firstSet(f *File, keys ...string) string {
	for _, k := range keys {
		if f.Has(k) {
			return k
		}
	}
	return keys[0]
}

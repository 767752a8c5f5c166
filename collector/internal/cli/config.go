package cli

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/ingest"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
)

// options are what `collector serve` can be told, by flag or by file. A flag
// goes before the file, the file before the default.
type options struct {
	auditd conf.Auditd // the stock keys, of which the server's have effect here

	store, api, apiGroup, http      string
	listen                          []string
	node                            string
	flush                           string
	freq                            int
	ports                           string
	idle                            int // seconds
	maxConns                        int
	frameTimeout, drainTimeout      time.Duration
	maxInFlight                     int64
	maxTotal, openHost, openTotal   int64
	openEvents, openEventsIn        int
	openAge                         time.Duration
	hostsFile                       string
	reserve, maxBytes               int64
	maxDays                         int
	stateFile                       string
	allowHalt                       bool
	maxHosts, metricHosts, newNames int
	logLevel                        string
	logJSON                         bool
}

const (
	defaultListen = ":60"
	defaultHTTP   = "127.0.0.1:8060"
)

func defaultOptions() *options {
	o := &options{
		auditd: conf.DefaultAuditd(),
		store:  server.DefaultStore, http: defaultHTTP,
		flush: string(journal.FlushSync), freq: 50,
		maxConns: listen.DefaultMaxConns, frameTimeout: listen.DefaultFrameTimeout, drainTimeout: server.DefaultDrainTimeout,
		maxInFlight: ingest.DefaultMaxInFlight, maxTotal: ingest.DefaultMaxTotal,
		openHost: head.DefaultOpenBytesHost, openTotal: head.DefaultOpenBytes, openEvents: head.DefaultOpenEventsHost, openEventsIn: head.DefaultOpenEvents, openAge: head.DefaultOpenAge, reserve: space.DefaultReserve,
		maxHosts: 20000, newNames: head.DefaultNewNames, metricHosts: server.DefaultMetricHosts,
		logLevel: "info",
	}
	o.auditd.TCPListenQueue = listen.DefaultBacklog
	return o
}

// addFlags binds the flags. Those with a stock key have its name with dashes.
func (o *options) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.store, "store", o.store, "folder of the store; made when it is not there")
	f.StringSliceVar(&o.listen, "listen", nil, "address and port to receive on, several with commas (default \""+defaultListen+"\")")
	f.StringVar(&o.api, "api", "", "unix socket for queries (default STORE/"+server.APISocket+")")
	f.StringVar(&o.apiGroup, "api-group", "", "group that may query beside root")
	f.StringVar(&o.http, "http", o.http, "address and port of /metrics, /healthz and /readyz; \"\" for none")
	f.StringVar(&o.node, "node", "", "name under which the collector's own events are stored (default the host name)")
	f.StringVar(&o.hostsFile, "hosts-file", "", "names of senders whose records have no node=: lines of an address and a name, as in /etc/hosts")
	f.StringVar(&o.flush, "flush", o.flush, "when a record counts as stored: sync, data, incremental, incremental_async or none")
	f.IntVar(&o.freq, "freq", o.freq, "records between syncs of the incremental modes")
	f.IntVar(&o.auditd.TCPMaxPerAddr, "tcp-max-per-addr", o.auditd.TCPMaxPerAddr, "connections from one address")
	f.IntVar(&o.idle, "tcp-client-max-idle", 0, "seconds after which, at the second look, a silent client is closed; 0 for never")
	f.StringVar(&o.ports, "tcp-client-ports", "", "ports that clients may come from: PORT or LOW-HIGH (default any)")
	f.IntVar(&o.auditd.TCPListenQueue, "tcp-listen-queue", o.auditd.TCPListenQueue, "connections that may wait to be accepted (stock: 5)")
	f.IntVar(&o.maxConns, "max-connections", o.maxConns, "connections in all, and never more than the limit of open files leaves")
	f.DurationVar(&o.frameTimeout, "frame-timeout", o.frameTimeout, "time from a record's first byte to its last")
	f.Int64Var(&o.maxInFlight, "max-in-flight", o.maxInFlight, "bytes of one connection that are received and not stored")
	f.Var(bytesFlag{&o.maxTotal}, "max-in-flight-total", "the same of all connections together")
	f.Var(bytesFlag{&o.openHost}, "max-open-bytes-per-host", "memory of one host's events that are not complete yet")
	f.IntVar(&o.openEvents, "max-open-events-per-host", o.openEvents, "events of one host that are not complete yet")
	f.Var(bytesFlag{&o.openTotal}, "max-open-bytes", "memory of all hosts' events that are not complete yet; at most a sixteenth of the disk")
	f.IntVar(&o.openEventsIn, "max-open-events", o.openEventsIn, "events of all hosts that are not complete yet")
	f.DurationVar(&o.openAge, "max-open-age", o.openAge, "how long after its first record an event may get others")
	f.IntVar(&o.maxHosts, "max-hosts", o.maxHosts, "hosts told apart; records of others are stored together")
	f.IntVar(&o.newNames, "max-new-names", o.newNames, "new names that one address brings a day; records of further ones are stored together")
	f.IntVar(&o.metricHosts, "metric-hosts", o.metricHosts, "hosts with metrics of their own; the others are summed up")
	f.DurationVar(&o.drainTimeout, "drain-timeout", o.drainTimeout, "how long a clean stop waits for senders' last replies")
	f.Var(bytesFlag{&o.reserve}, "disk-reserve", "free space kept for what was accepted: below it records are refused; 0 for none")
	f.IntVar(&o.maxDays, "max-days", 0, "days kept, today included; older ones are dropped; 0 for all")
	f.Var(bytesFlag{&o.maxBytes}, "max-bytes", "size of the stored days beyond which the oldest are dropped; 0 for any")
	f.BoolVar(&o.allowHalt, "allow-halt", false, "let the actions single and halt end all work on this machine")
	f.StringVar(&o.logLevel, "log-level", o.logLevel, "error, warn, info or debug")
	f.BoolVar(&o.logJSON, "log-json", false, "log JSON, one object a line")
}

// schema is auditd.conf's keys, the forwarder's own, which have no effect here, and
// ours. A flag of the same name wins, so given
// (by flag name) keeps the file's value out.
func (o *options) schema(given func(flag string) bool) conf.Schema {
	own := conf.Schema{
		conf.Path("store", &o.store),
		conf.List("listen", &o.listen),
		conf.Path("api", &o.api),
		conf.Word("api_group", &o.apiGroup),
		conf.Word("http", &o.http),
		conf.Word("node", &o.node),
		conf.Int("max_connections", &o.maxConns, 1, 1<<20),
		conf.Duration("frame_timeout", &o.frameTimeout, time.Millisecond, time.Hour),
		conf.Duration("drain_timeout", &o.drainTimeout, time.Millisecond, time.Hour),
		conf.Bytes("max_in_flight", &o.maxInFlight, minInFlight, 1<<30),
		conf.Bytes("max_in_flight_total", &o.maxTotal, minTotal, 1<<40),
		conf.Bytes("max_open_bytes_per_host", &o.openHost, minInFlight, 1<<30),
		conf.Int("max_open_events_per_host", &o.openEvents, 1, 1<<24),
		conf.Int("max_open_events", &o.openEventsIn, 1, 1<<24),
		conf.Duration("max_open_age", &o.openAge, time.Second, 24*time.Hour),
		conf.Path("hosts_file", &o.hostsFile),
		conf.Bytes("max_open_bytes", &o.openTotal, minInFlight, 1<<40),
		conf.Bytes("disk_reserve", &o.reserve, 0, 1<<50),
		conf.Int("max_days", &o.maxDays, 0, 1<<20),
		conf.Bytes("max_bytes", &o.maxBytes, 0, 1<<60),
		conf.Path("state_file", &o.stateFile),
		conf.Int("max_hosts", &o.maxHosts, 1, 1<<24),
		conf.Int("max_new_names", &o.newNames, 1, 1<<24),
		conf.Int("metric_hosts", &o.metricHosts, 1, 1<<24),
		conf.Enum("log_level", &o.logLevel, "error", "warn", "info", "debug"),
	}
	for i, k := range own {
		if k.Name == "http" {
			own[i].Empty = true // http = : no metrics
		}
	}
	all := append(append(o.auditd.Schema(), o.auditd.OwnHostKeys()...), own...)
	for i, k := range all {
		if k.Set != nil && given(strings.ReplaceAll(k.Name, "_", "-")) {
			all[i].Set = checkOnly(k)
		}
	}
	return all
}

// minTotal is the least that lets a few connections be read at a time.
const minTotal = 1 << 20

// minInFlight is the least that lets a record of any size through.
const minInFlight = 16 << 10

// checkOnly is k.Set for a key whose flag was given: the file's value must be
// right all the same, but has no effect.
func checkOnly(k conf.Key) func(string) error {
	return func(v string) error {
		scratch := defaultOptions()
		for _, other := range scratch.schema(func(string) bool { return false }) {
			if other.Name == k.Name {
				return other.Set(v)
			}
		}
		return nil
	}
}

// load reads the file, if one is named, over the defaults and under the flags.
func (o *options) load(path string, flags *pflag.FlagSet) (*conf.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := conf.LoadSecure(path, o.schema(flags.Changed))
	if f == nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	err = o.auditd.Validate(f)
	if f.Has("http") && f.Value("http") == "" && !flags.Changed("http") {
		o.http = ""
	}
	if f.Has("flush") && !flags.Changed("flush") {
		o.flush = string(o.auditd.Flush)
	}
	if f.Has("freq") && !flags.Changed("freq") {
		o.freq = o.auditd.Freq
	}
	if f.Has("tcp_client_max_idle") && !flags.Changed("tcp-client-max-idle") {
		o.idle = int(o.auditd.TCPClientMaxIdle / time.Second)
	}
	if f.Has("tcp_listen_port") && len(o.listen) == 0 {
		o.listen = []string{":" + strconv.Itoa(o.auditd.TCPListenPort)}
	}
	if o.auditd.NameFormat == conf.NameUser && o.node == "" {
		o.node = o.auditd.Name
	}
	return f, err
}

// limits are the ones that can change while the collector runs.
func (o *options) limits() (listen.Limits, error) {
	ports := o.auditd.TCPClientPorts
	if o.ports != "" {
		var err error
		if ports, err = conf.ParsePorts(o.ports); err != nil {
			return listen.Limits{}, fmt.Errorf("--tcp-client-ports: %w", err)
		}
	}
	switch {
	case o.auditd.TCPMaxPerAddr < 1:
		return listen.Limits{}, errors.New("--tcp-max-per-addr: must be at least 1")
	case o.maxConns < 1:
		return listen.Limits{}, errors.New("--max-connections: must be at least 1")
	case o.idle < 0:
		return listen.Limits{}, errors.New("--tcp-client-max-idle: must not be negative")
	case o.frameTimeout <= 0:
		return listen.Limits{}, errors.New("--frame-timeout: must be positive")
	}
	return listen.Limits{
		MaxPerAddr: o.auditd.TCPMaxPerAddr, MinPort: ports.Low, MaxPort: ports.High,
		MaxIdle: time.Duration(o.idle) * time.Second, MaxConns: o.maxConns, FrameTimeout: o.frameTimeout,
	}, nil
}

// config is the server's, checked.
func (o *options) config() (server.Config, error) {
	limits, err := o.limits()
	if err != nil {
		return server.Config{}, err
	}
	addrs := o.listen
	if len(addrs) == 0 {
		addrs = []string{defaultListen}
	}
	for _, a := range addrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return server.Config{}, fmt.Errorf("--listen %s: want ADDRESS:PORT or :PORT: %w", a, err)
		}
	}
	switch {
	case !journal.Flush(o.flush).Valid():
		return server.Config{}, fmt.Errorf("--flush %s: it is sync, data, incremental, incremental_async or none", o.flush)
	case o.freq < 0:
		return server.Config{}, errors.New("--freq: must not be negative")
	case o.auditd.TCPListenQueue < 1:
		return server.Config{}, errors.New("--tcp-listen-queue: must be at least 1")
	case o.maxInFlight < minInFlight:
		return server.Config{}, fmt.Errorf("--max-in-flight: must be at least %d", minInFlight)
	case o.maxTotal < minTotal:
		return server.Config{}, fmt.Errorf("--max-in-flight-total: must be at least %d", minTotal)
	case o.openHost < minInFlight || o.openTotal < minInFlight:
		return server.Config{}, fmt.Errorf("--max-open-bytes-per-host and --max-open-bytes: must be at least %d", minInFlight)
	case o.openEvents < 1 || o.openEventsIn < 1:
		return server.Config{}, errors.New("--max-open-events-per-host and --max-open-events: must be at least 1")
	case o.openAge < time.Second:
		return server.Config{}, errors.New("--max-open-age: must be at least 1s")
	case o.maxDays < 0:
		return server.Config{}, errors.New("--max-days: must not be negative")
	case o.maxHosts < 1 || o.metricHosts < 1 || o.newNames < 1:
		return server.Config{}, errors.New("--max-hosts, --max-new-names and --metric-hosts: must be at least 1")
	case o.drainTimeout <= 0:
		return server.Config{}, errors.New("--drain-timeout: must be positive")
	}
	if strings.ContainsFunc(o.node, func(r rune) bool { return r <= ' ' || r == 0x7f }) || len(o.node) > 255 {
		return server.Config{}, fmt.Errorf("--node %q: a name is one word of at most 255 bytes", o.node)
	}
	return server.Config{
		Store: o.store, Listen: addrs, Backlog: o.auditd.TCPListenQueue, Limits: limits,
		Flush: journal.Flush(o.flush), Freq: o.freq,
		API: o.api, APIGroup: o.apiGroup, HTTP: o.http, Node: o.node,
		EventTimeout: o.auditd.EndOfEventTimeout, MaxHosts: o.maxHosts, NewNames: o.newNames, MetricHosts: o.metricHosts,
		MaxInFlight: int(o.maxInFlight), MaxTotal: o.maxTotal, OpenPerHost: o.openHost, OpenTotal: o.openTotal, OpenEvents: o.openEvents, OpenEventsIn: o.openEventsIn, OpenAge: o.openAge, DrainTimeout: o.drainTimeout,
		Space: o.space(), Retention: server.Retention{MaxDays: o.maxDays, MaxBytes: o.maxBytes},
		Plugins: o.plugins(),
		Action:  action.Config{MailTo: o.auditd.ActionMailAcct, AllowHalt: o.allowHalt}, StateFile: o.stateFile, HostsFile: o.hostsFile,
		LogLevel: strings.ToLower(o.logLevel),
	}, nil
}

// space is what is kept free, and what is done when it is used up.
func (o *options) space() space.Limits {
	l := space.Limits{
		Reserve:   o.reserve,
		SpaceLeft: o.auditd.SpaceLeft, SpaceLeftAction: o.auditd.SpaceLeftAction,
		AdminSpaceLeft: o.auditd.AdminSpaceLeft, AdminSpaceLeftAction: o.auditd.AdminSpaceLeftAction,
		DiskFullAction: o.auditd.DiskFullAction, DiskErrorAction: o.auditd.DiskErrorAction,
	}
	if l.Reserve == 0 {
		l.Reserve = -1
	}
	return l
}

// plugins are those of plugin_dir, when the fleet's records are to go to them.
func (o *options) plugins() server.Plugins {
	a := &o.auditd
	p := server.Plugins{Settings: dispatch.Settings{Depth: a.QDepth, Overflow: a.OverflowAction.Do, MaxRestarts: a.MaxRestarts}}
	if a.DistributeNetwork {
		p.List, p.Problem = conf.LoadPlugins(a.PluginDir)
	}
	return p
}

// bytesFlag is a size such as 64M.
type bytesFlag struct{ n *int64 }

// Set implements pflag.Value.
func (b bytesFlag) Set(v string) (err error) {
	*b.n, err = conf.ParseBytes(v)
	return err
}

func (b bytesFlag) String() string {
	for _, u := range []struct {
		shift int
		name  string
	}{{40, "T"}, {30, "G"}, {20, "M"}, {10, "K"}} {
		if b.n != nil && *b.n != 0 && *b.n%(1<<u.shift) == 0 {
			return strconv.FormatInt(*b.n>>u.shift, 10) + u.name
		}
	}
	if b.n == nil {
		return "0"
	}
	return strconv.FormatInt(*b.n, 10)
}

// Type implements pflag.Value.
func (b bytesFlag) Type() string { return "size" }

// withoutEffect are keys of the file that a collector does not act on in this
// version: said once at start, so that nobody relies on them.
func withoutEffect(f *conf.File) []string {
	var set []string
	for _, key := range []string{
		"local_events", "write_logs", "log_file", "log_group", "log_format", "num_logs", "max_log_file", "max_log_file_action",
		"priority_boost", "verify_email", "report_interval", "dispatcher", "disp_qos", "log_compress", "rotated_names", "queue_full_action",
	} {
		if f.Has(key) {
			set = append(set, key)
		}
	}
	return set
}

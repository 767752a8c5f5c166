package cli

import (
	"fmt"
	"math"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship/grpc"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

const (
	defaultSpool = "/var/spool/auditfleet"
	// Where stock tools look for the state report of the host's daemon; beside one
	// the file is another.
	daemonReport = "/run/auditd.state"
	otherReport  = "/run/auditfleet-forwarder.state"
	daemonPID    = "/run/auditd.pid"
	daemonState  = "/run/auditfleet-forwarder.serial"
	none         = "none"
	// The values of --spool-full.
	spoolDropOldest = "drop-oldest"
	spoolRefuse     = "refuse"
	// forever is how long a setting may last that has no bound.
	forever = time.Duration(math.MaxInt64)
)

// runFlags holds the settings of `forwarder run`, given by flags or in the file of
// --options.
type runFlags struct {
	config, remoteConfig string
	refuseLinks          bool // for config, also where it was named
	remote, transport    string
	tls                  pki.Config
	grpc                 *grpc.Transport // of grpcTLS; nil: none was made yet
	grpcTrust            *pki.Trust      // of grpc
	grpcTLS              pki.Config
	sealKeys             string
	witness              *witness.Keeper // nil: none was made yet
	format               conf.Format     // "": as remoteConfig has it
	window               int
	node                 string
	source               string
	follow               bool
	spoolDir             string
	spoolSize            int64
	state, logFile       string
	http                 string
	kernelState          string
	receiveBuffer, queue int
	drain, shutdown      time.Duration
	logLevel             string
	logJSON              bool
	onlyCheck            bool    // only check the configuration
	faults               []error // of plugins' files, which cost their plugin only
	allowHalt            bool
	report               string
	probe, alive         time.Duration
	spoolFull            string
	drainOnly            bool
	pidFile              string
	plugin               bool
	options              string
	optionsFile          *conf.File             // nil: none
	typed                func(flag string) bool // whether the command line has it; nil: it has none
}

// newRunFlags has the defaults, which are also those of the stock names.
func newRunFlags() *runFlags {
	o := &runFlags{}
	o.table().Defaults()
	return o
}

// table is everything that `forwarder run` can be told, bound to o. Its flags, the keys
// of --options and the list in the manual page are made from it.
func (o *runFlags) table() settings.Table {
	return settings.Table{{List: []settings.Setting{
		{Key: conf.Word("source", &o.source), Default: agent.SourceKernel, Arg: "SOURCE",
			Doc: "Where records come from: kernel, multicast, stdin or a file.\n" +
				"kernel: be the audit daemon.\nmulticast: listen beside one, without a local log.\n" +
				"stdin: records of a stock dispatcher.\nA file is an audit.log, perhaps compressed with gzip, zstd, xz or bzip2."},
		{Key: conf.YesNo("follow", &o.follow),
			Doc: "Go on at the end of a file, through rotation."},
		{Key: conf.YesNo("drain_only", &o.drainOnly),
			Doc: "Read no source: ship what the spool holds, and end.\n" +
				"The exit code is 3, and what is left is said, when not all of it was acknowledged within --drain-timeout."},
		{Key: conf.Word("state", &o.state), Unset: "SPOOL/source with --follow, " + daemonState + " for the kernel, or none", Arg: "FILE",
			Doc: "Remember in this file how far the source was read.\n" +
				"Of a file that is followed it is the place there; of the kernel the last serial: what the kernel makes while no forwarder runs is counted at the next start."},
		{Key: conf.Word("remote", &o.remote), Arg: "HOST[:PORT]",
			Doc: "The collector; several, with commas, are tried in order.\nPort 60 unless given, with grpc 6060."},
		{Key: conf.Enum("transport", &o.transport, transportTCP, transportTLS, transportGRPC), Default: transportTCP, Arg: "TRANSPORT",
			Doc: "How to ship: by the audisp-remote protocol, in clear text (tcp) or over TLS 1.3 with certificates (tls),\n" +
				"or by gRPC to a collector with --grpc (grpc): over TLS 1.3 with certificates, compressed, each record stored exactly once."},
		{Key: conf.Word("tls_ca", &o.tls.CA), Arg: "FILE",
			Doc: "Certificates of the CAs whose collectors are known, in PEM.\nThe files are read again before each connection."},
		{Key: conf.Word("tls_cert", &o.tls.Cert), Arg: "FILE",
			Doc: "This host's certificate, which says to the collector who it is."},
		{Key: conf.Word("tls_key", &o.tls.Key), Arg: "FILE",
			Doc: "Its key, which only root may read."},
		{Key: conf.Word("seal_keys", &o.sealKeys), Unset: "the first key that a collector shows", Arg: "FILE",
			Doc: "With grpc: public keys with which collectors sign what they say of their logs, one a line, as collector seal init prints them.\n" +
				"This host keeps what is signed and says when a collector's log was changed or put back, see forwarder-witness(8); without the file the first key that a collector shows is gone by, which is weaker.\n" +
				"Read again before each connection, and on SIGHUP."},
		{Key: conf.Enum("format", &o.format, conf.FormatManaged, conf.FormatASCII), Unset: "as --remote-config has it, or managed", Arg: "FORMAT",
			Doc: "How records travel.\nmanaged ones are acknowledged; ascii is lines, which never are."},
		{Key: conf.Int("window", &o.window, 1, grpc.MaxWindow), Unset: fmt.Sprintf("the most: %d, with grpc %d", ship.MaxWindow, grpc.MaxWindow), Arg: "N",
			Doc: "Records in flight at once; 1 waits for each acknowledgement."},
		{Key: conf.Word("node", &o.node), Arg: "NAME",
			Doc: "Name of this host in node=, which goes before name_format."},
		{Key: conf.Word("config", &o.config), Unset: auditdConf + " for the kernel source, if it is there", Arg: "FILE",
			Doc: "The auditd.conf to read."},
		{Key: conf.Word("remote_config", &o.remoteConfig), Arg: "FILE",
			Doc: "The audisp-remote.conf to read."},
		{Key: conf.Word("spool", &o.spoolDir), Default: defaultSpool, Arg: "FOLDER",
			Doc: "Folder of the spool.\n" +
				"When another program removes, renames or replaces it, or files in it, that is noticed within a second and the spool is made again there, with every record that waits.\n" +
				"What is not the spool's is left alone: then records go on in files without a name, are shipped, and what is not acknowledged is gone when the program ends.\n" +
				"One that is put back from a copy sends what it has, and by gRPC the collector knows what of that is stored; what was read of a followed file since the copy is read again, and stored twice."},
		{Key: conf.Bytes("spool_size", &o.spoolSize, 1<<20, math.MaxInt64), Default: "1G", Arg: "SIZE",
			Doc: "Bound of the spool, in bytes or with K, M, G."},
		{Key: conf.Enum("spool_full", &o.spoolFull, spoolDropOldest, spoolRefuse), Unset: "drop-oldest for kernel and multicast, refuse for stdin and files", Arg: "WHAT",
			Doc: "What a full spool does; refuse makes stdin or a file wait, and drops the kernel's newest records."},
		{Key: conf.YesNo("plugin", &o.plugin),
			Doc: "Standard input is a dispatcher's, which starts the program again.\nThat is found out by itself where auditd is the parent.\n" +
				"At the end of the input, and when told to end, what is spooled stays for the next start at once, and a spool that the instance before still has is waited for.\n" +
				"A full spool with refuse has the dispatcher's queue fill, until the input ends: what can't be kept then is counted.\n" +
				"Where standard error is /dev/null, as a stock auditd has it, messages go to syslog."},
		{Key: conf.Word("options", &o.options), In: settings.FlagOnly, Arg: "FILE",
			Doc: "File with any of these flags as keys, in the grammar of auditd.conf: spool_full = drop-oldest.\n" +
				"The command line goes before it.\nRead at the start only."},
		{Key: conf.Duration("probe_interval", &o.probe, 0, forever), Default: ship.DefaultProbe, Arg: "DURATION",
			Doc: "With several servers: how often those before the present one are tried."},
		{Key: conf.Duration("alive_interval", &o.alive, 0, forever), Default: agent.DefaultAlive, Arg: "DURATION",
			Doc: "How often the collector gets a record (DAEMON_RESUME op=alive) that this host's forwarder lives, how it stands and what it has handed on: by it silence means something.\n" +
				"0: never.\nSources that end have none."},
		{Key: conf.Word("log_file", &o.logFile), Arg: "FILE",
			Doc: "The local log, which goes before log_file; none for no local log."},
		{Key: conf.Word("http", &o.http), Unset: "off", Arg: "ADDR:PORT",
			Doc: "Address of /metrics and /healthz, such as 127.0.0.1:8061.\n" +
				"/healthz answers 503 with the reason while the spool is not in its place, or no record can come: auditing is off, or the multicast source is in a network namespace that the kernel sends none to."},
		{Key: conf.Enum("kernel_state", &o.kernelState, "enable", "disable", "nochange"), Default: "enable", Arg: "STATE",
			Doc: "What to do with the kernel's enabled flag at the start.\n" +
				"At the end it is put back as it was found: where auditing was off (a machine started without audit=1) nothing is audited from then on.\n" +
				"Switch it on with auditctl -e 1 before, as the unit file does.\n" +
				"When the forwarder did so is noted in /run/auditfleet-forwarder.boot, and a start warns of processes that are older, which are never audited; see forwarder-doctor(8)."},
		{Key: conf.Bytes("receive_buffer", &o.receiveBuffer, 64<<10, 1<<30), Default: "64M", Arg: "SIZE",
			Doc: "Receive buffer of the kernel's socket."},
		{Key: conf.Bytes("queue", &o.queue, 1<<20, 1<<30), Default: "8M", Arg: "SIZE",
			Doc: "Memory for records between the kernel's reader and the disk."},
		{Key: conf.Duration("drain_timeout", &o.drain, time.Millisecond, forever), Default: 30 * time.Second, Arg: "DURATION",
			Doc: "How long to wait for acknowledgements at the end of the input."},
		{Key: conf.Duration("shutdown_timeout", &o.shutdown, time.Millisecond, forever), Default: 5 * time.Second, Arg: "DURATION",
			Doc: "How long to go on shipping when told to end."},
		{Key: conf.YesNo("allow_halt", &o.allowHalt),
			Doc: "Let the actions single and halt of auditd.conf and audisp-remote.conf do what they say."},
		{Key: conf.Word("report", &o.report), Unset: daemonReport + " for the kernel source, " + otherReport + " otherwise", Arg: "FILE",
			Doc: "The state report of SIGCONT; among the rest it says which collector has acknowledged up to which offset of which stream."},
		{Key: conf.Word("pid_file", &o.pidFile), Unset: daemonPID + " for the kernel source, none otherwise", Arg: "FILE",
			Doc: "File for the process id, or none."},
		{Key: conf.Enum("log_level", &o.logLevel, "trace", "debug", "info", "warn", "error"), Default: "info", Arg: "LEVEL",
			Doc: "What is logged, and all that is worse."},
		{Key: conf.YesNo("log_json", &o.logJSON),
			Doc: "Log JSON, one object a line."},
		{Key: conf.YesNo("check", &o.onlyCheck), In: settings.FlagOnly,
			Doc: "Check the flags, the files that they name and the plugins' files, and end.\n" +
				"Nothing is made, registered or sent; what is wrong is said with its place, and the exit code is 6, or 2 for a flag."},
	}}}
}

// runWords are what can stand behind the flags: those that take a file may have words,
// too.
func runWords(table settings.Table) map[string]option.Words {
	words := table.Words()
	words["source"] = option.Words{List: option.These(agent.SourceKernel, agent.SourceMulticast, agent.SourceStdin).List, Files: true}
	for _, flag := range []string{"log-file", "pid-file"} {
		words[flag] = option.Words{List: option.These(none).List, Files: true}
	}
	return words
}

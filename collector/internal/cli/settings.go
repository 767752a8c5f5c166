package cli

import (
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/ingest/grpc"
	"github.com/auditfleet/auditfleet/collector/internal/ingest/remote"
	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

const (
	// minTotal is the least value with which a few connections can be read at a time.
	minTotal = 1 << 20
	// minInFlight is the least value with which a record of any size can be received.
	minInFlight = 16 << 10
)

// storeKey is the key of where the store is: a folder, or a cluster.
func storeKey(to *string) conf.Key {
	k := conf.Path("store", to)
	strict, loose := k.Set, k.Loose
	either := func(folder func(string) error) func(string) error {
		return func(v string) error {
			if !engine.IsCluster(v) {
				return folder(v)
			}
			if err := engine.CheckCluster(v); err != nil {
				return err
			}
			*to = v
			return nil
		}
	}
	k.Set, k.Loose = either(strict), either(loose)
	return k
}

// table returns every setting of `collector serve`, bound to its place in o. The flags, the
// keys of the file, deploy/collector.conf and the lists of the manual pages are made from it;
// `go test ./collector/internal/cli -update` writes the files again.
func (o *options) table() settings.Table {
	c, stock := &o.server, o.auditd.Schema()
	http := conf.Word("http", &c.HTTP)
	http.Empty = func() { c.HTTP = "" }
	listen := conf.List("listen", &c.Listen)
	listen.Empty = func() { c.Listen = nil }
	some := listen.Set
	listen.Set = func(v string) error {
		if v == "" { // of a flag
			listen.Empty()
			return nil
		}
		return some(v)
	}
	return settings.Table{
		{Title: "Where records are kept and arrive", Restart: true, List: []settings.Setting{
			{Key: conf.Word("config", &o.file), In: settings.FlagOnly, Arg: "FILE",
				Doc: "Configuration file, in auditd.conf's grammar."},
			{Key: conf.YesNo("check", &o.check), In: settings.FlagOnly,
				Doc: "Check the configuration and the files that it names, and end.\n" +
					"Nothing is made or bound; what is wrong is said with its place, and the exit code is 6."},
			{Key: storeKey(&c.Store), Default: server.DefaultStore, Arg: "FOLDER",
				Doc: "Folder of the store; made when it is not there.\n" +
					"Or a ClickHouse cluster that keeps the events, clickhouse://HOST:PORT,HOST:PORT/DATABASE?user=NAME&password_file=FILE, with every server of it that is to be used; its tables are made.\n" +
					"Further options of it are shards=N (of each as many servers), quorum=N, tls=yes, ca=FILE, cert=FILE and key=FILE.\n" +
					"Each server needs the macros shard and replica."},
			{Key: conf.Path("store_folder", &c.StoreFolder), Arg: "FOLDER", Example: server.DefaultStore,
				Doc: "Folder of what a collector keeps itself where store names a cluster: journal, hosts, ledger and log; " + server.DefaultStore + " when it is not said."},
			{Key: conf.Word("cluster_name", &c.ClusterName), Arg: "NAME", Example: "collector1", Unset: "the name of the machine",
				Doc: "What this collector is called among those that keep their events in the same cluster, where store names one: in hosts, and in what answers lack."},
			{Key: conf.Word("cluster_address", &c.ClusterAddress), Arg: "HOST:PORT", Example: "collector1.example.com:6060", Unset: "the first of grpc",
				Doc: "Where these reach the gRPC port of this collector, whose certificate has HOST.\n" +
					"They ask it for what it has received and not stored yet, by certificates of the role read: without that their answers say what they lack."},
			{Key: listen, Default: ":60", Arg: "ADDR:PORT[,ADDR:PORT]",
				Doc: "Address and port to receive on in clear text, several with commas; empty for no clear text."},
			{Key: conf.List("grpc", &c.GRPC), Arg: "ADDR:PORT[,ADDR:PORT]", Example: ":6060",
				Doc: "Address and port to receive on by gRPC over TLS 1.3, from forwarders with --transport grpc that have a certificate of tls_ca.\n" +
					"Each record is stored exactly once, under the name that its sender's certificate proves."},
			{Key: conf.List("listen_tls", &c.ListenTLS), Arg: "ADDR:PORT[,ADDR:PORT]", Example: ":61",
				Doc: "Address and port to receive the same protocol on over TLS 1.3, of senders with a certificate of tls_ca."},
			{Key: stock.Key("tcp_listen_port"), In: settings.FileOnly, For: "listen", Arg: "PORT",
				Doc: "The stock key for listen, on all addresses.\nWhat listen says goes before it."},
			{Key: conf.Path("api", &c.API), Unset: "STORE/" + server.APISocket, Arg: "SOCKET", Example: "/run/auditfleet/collector.sock",
				Doc: "Unix socket for queries."},
			{Key: conf.Word("api_group", &c.APIGroup), Arg: "GROUP", Example: "audit",
				Doc: "Group that may query beside root and the collector's user.\nWhat changes anything (hosts --forget, hold, seal accept), and alerts test, takes one of these."},
			{Key: http, Default: "127.0.0.1:8060", Arg: "ADDR:PORT",
				Doc: "Address and port of /metrics, /healthz and /readyz; empty for none."},
			{Key: conf.Word("node", &c.Node), Unset: "the host name", Arg: "NAME", Example: "collector1",
				Doc: "Name under which the collector's own events are stored."},
			{Key: stock.Key("name_format"), In: settings.FileOnly, For: "node", Arg: "FORMAT",
				Doc: "With user, the key name has that name."},
			{Key: stock.Key("name"), In: settings.FileOnly, For: "node", Arg: "NAME",
				Doc: "The stock key for node."},
			{Key: conf.Path("state_file", &c.StateFile), In: settings.FileOnly, Unset: "STORE/" + server.StateFile, Arg: "FILE", Example: "/run/auditfleet/collector.state",
				Doc: "What SIGCONT writes."},
		}},
		{Title: "When a record counts as stored", Restart: true, List: []settings.Setting{
			{Key: stock.Key("flush"), Default: journal.FlushSync, Arg: "MODE",
				Doc: "When a record counts as stored, and is acknowledged.\n" +
					"sync: once it is on stable storage; data is the same here.\n" +
					"incremental and incremental_async: when it is written, which is synced every freq records.\n" +
					"none: when it is written, which is synced when the system likes."},
			{Key: stock.Key("freq"), Default: 50, Arg: "RECORDS",
				Doc: "Records between syncs of the incremental modes."},
		}},
		o.tls(),
		preShared(stock),
		o.connections(stock),
		o.memory(stock),
		{Title: "Names", List: []settings.Setting{
			{Key: conf.Path("hosts_file", &c.HostsFile), Arg: "FILE", Example: "/etc/auditfleet/hosts",
				Doc: "Names of senders whose records have no node=: lines of an address and a name, as in /etc/hosts.\n" +
					"Others are stored under their address."},
			{Key: conf.Path("trusted_senders", &c.TrustedSenders), Arg: "FILE", Example: "/etc/auditfleet/trusted-senders",
				Doc: "Which names senders in clear text may use: lines of names with commas between them, with * and ?, and addresses or networks.\n" +
					"Records with another node= are kept under their sender's address, counted, and found by search --mismatch.\n" +
					"A name that was proved by TLS can't be used in clear text, whatever stands here."},
			{Key: conf.Enum("untrusted_senders", &o.untrusted, "flag", "refuse"), Default: "flag", Arg: "ACTION",
				Doc: "What becomes of senders whose address no line of trusted_senders has.\n" +
					"flag: as above. refuse: connections of theirs are refused, and ended when the file no longer has them.\nWho proves a name by a certificate or a key is not asked for here."},
		}},
		o.space(stock),
		{Title: "What is kept", List: []settings.Setting{
			{Key: conf.Int("max_days", &c.Retention.MaxDays, 0, 1<<20), Arg: "N",
				Doc: "Days kept, today included; older ones are dropped; 0 for all.\nA clock that jumps ahead is believed after two days."},
			{Key: conf.Bytes("max_bytes", &c.Retention.MaxBytes, 0, 1<<60), Arg: "SIZE",
				Doc: "Size of the stored days beyond which the oldest are dropped; 0 for any.\n" +
					"It is that on disk, with the day that is written; whole sealed days are dropped."},
			retain(c),
		}},
		{Title: "Compaction", Restart: true, Doc: "Days that are over are written again in the background: each event into the day in which it happened, in less room, and found sooner.\nSo are parts of the day that runs, as they come.", List: []settings.Setting{
			{Key: conf.YesNo("compact", &c.Compact), Default: "yes",
				Doc: "Whether days are compacted.\nWith no they stay as they came; `collector compact` does it while no collector has the store."},
			{Key: conf.Duration("compact_after", &c.Compaction.After, 0, 30*24*time.Hour), Default: server.DefaultCompactAfter, Arg: "DURATION",
				Doc: "How long a day (UTC) is over before it is compacted."},
			{Key: conf.Int("compact_groups", &c.Compaction.Groups, 0, 1<<16), Default: server.DefaultCompactGroups, Arg: "N",
				Doc: "How many groups of events (a batch's, some 25 MB of records or five minutes) the day that runs has before they are merged into a large one; 0: it stays as it comes until it is over.\n" +
					"Large ones of a size are merged once there are eight.\nFewer have a search of the running day look into less, and more be written again: each record up to three times until its day is over and one."},
			{Key: conf.Duration("compact_import_after", &c.Compaction.ImportAfter, 0, 365*24*time.Hour), Default: server.DefaultCompactImportAfter, Arg: "DURATION",
				Doc: "How long after its last record an import is compacted: until then it can be taken back.\nOf one that is continued again and again, what it has begun is compacted four times as long after the day of that."},
			{Key: conf.Int("max_event_age", &c.Compaction.Oldest, 0, 1<<20), Default: server.DefaultEventAge, Arg: "DAYS",
				Doc: "How many days older than its receipt an event may be to go to the day in which it happened.\n" +
					"What is older, or more than a day ahead, has a clock that is not to be trusted, and stays with the day of its receipt.\nEvents of an import go to their day, however old they are.\n" +
					"What is older than half of the shortest time of max_days and retain stays there, too: a host that sets its clock back does not have it dropped at once."},
			{Key: conf.Bytes("compact_rate", &c.Compaction.Rate, 0, 1<<40), Default: server.DefaultCompactRate, Arg: "SIZE",
				Doc: "Bytes of records that are written again a second at most; 0 for as many as can be.\nIt has one thread, which gives way to all others.\nWhile these want all CPUs, it takes an eighth of one."},
		}},
		o.alerts(),
		{Title: "Where alerts go", List: []settings.Setting{
			{Key: conf.Path("alert_sinks", &o.alertSinks), Arg: "FOLDER", Example: "/etc/auditfleet/sinks.d",
				Doc: "Folder with a file for each sink of alerts, NAME.conf: an alertmanager, a webhook, mail, a program or syslog; see SINKS in the manual page of collector.conf."},
		}},
		{Title: "The log of what is stored", Restart: true, List: []settings.Setting{
			{Key: conf.Path("seal_key", &c.SealKey), Default: server.DefaultSealKey, Arg: "FILE",
				Doc: "The key that signs the log of what is stored; `collector seal init` makes one.\n" +
					"The newest checkpoint is kept beside it, as FILE" + seal.BesideSuffix + ", by which a store that was put back is noticed: so neither belongs into the store.\nWithout the file the log is kept, and not signed."},
			{Key: conf.Duration("seal_interval", &c.SealInterval, time.Second, 10*time.Minute), Default: seal.DefaultInterval, Arg: "TIME",
				Doc: "How often a checkpoint is signed at least when anything changed, 10 minutes at most.\nOne is signed for each day that is sealed or dropped, too."},
			{Key: conf.Enum("seal_proves", &c.SealProves, server.ProveFrames, server.ProveEvents), Default: string(server.ProveFrames), Arg: "WHAT",
				Doc: "What the log proves, where there is a key, and so what a bundle of evidence shows beside the events asked for:\n" +
					"frames, the 256 KiB of text in which each was compressed, with what hosts sent beside it, other hosts too;\n" +
					"or events, each alone, so that a bundle has nothing of others.\nFor that all text is hashed as it is stored,\n" +
					"which takes 5 to 8 percent of the CPU while more comes in than the collector can take, and next to nothing else.\n" +
					"Of days that are compacted it proves the text, too, which else is the collector's signed word.\n" +
					"Events in a cluster are always proved so: none of their frames is kept."},
		}},
		{Title: "Plugins", List: []settings.Setting{
			{Key: stock.Key("distribute_network"), In: settings.FileOnly,
				Doc: "Whether the programs of plugin_dir get the events of all hosts, each event's records together, as string or binary.\n" +
					"One that does not keep up loses records, which are counted: it never holds up a sender."},
			{Key: stock.Key("plugin_dir"), In: settings.FileOnly, Arg: "FOLDER",
				Doc: "Their files, as auditd-plugins(5) has them.\nGive a host with an auditd of its own another folder here."},
			{Key: stock.Key("q_depth"), In: settings.FileOnly, Arg: "N",
				Doc: "Records that may wait for a plugin."},
			{Key: stock.Key("overflow_action"), In: settings.FileOnly, Arg: "ACTION",
				Doc: "What is done when they are too many.\nsuspend suspends that plugin, until SIGUSR2; single and halt need --allow-halt."},
			{Key: stock.Key("max_restarts"), In: settings.FileOnly, Arg: "N",
				Doc: "How often a plugin that ends is started again."},
		}},
		{Title: "The log, on standard error", Restart: true, List: []settings.Setting{
			{Key: conf.Enum("log_level", &c.LogLevel, "error", "warn", "info", "debug"), Default: "info", Arg: "LEVEL",
				Doc: "What is logged, and all that is worse."},
			{Key: conf.YesNo("log_json", &o.logJSON), Default: "no",
				Doc: "Log JSON, one object a line."},
		}},
		o.hostKeys(stock),
	}
}

// connections returns the section with the limits on connections.
func (o *options) connections(stock conf.Schema) settings.Section {
	l := &o.server.Limits
	return settings.Section{Title: "Limits on connections", Doc: "They hold for what comes after a change.", List: []settings.Setting{
		// The stock server allows 1,024 at most; a gateway may have more senders behind it.
		{Key: conf.Int("tcp_max_per_addr", &l.MaxPerAddr, 1, 1<<20), Default: o.auditd.TCPMaxPerAddr, Arg: "N",
			Doc: "Connections from one address.\nWho is refused for it leaves DAEMON_ACCEPT op=dup and a warning; a session whose sender is gone makes room."},
		{Key: stock.Key("tcp_client_ports"), Unset: "any", Arg: "PORT|LOW-HIGH", Example: "1-1023",
			Doc: "Ports that clients may come from."},
		{Key: stock.Key("tcp_client_max_idle"), Arg: "SECONDS", Advice: "120",
			Doc: "Seconds after which, at the second look, a silent client is closed; 0 for never.\n" +
				"So senders are noticed when they die that send a heartbeat at least every 60 seconds (heartbeat_timeout = 60 at the sender) with 120 here."},
		{Key: stock.Key("tcp_listen_queue"), Default: listen.DefaultBacklog, Restart: true, Arg: "N",
			Doc: "Connections that may wait to be accepted; stock has 5."},
		{Key: conf.Int("max_connections", &l.MaxConns, 1, 1<<20), Default: listen.DefaultMaxConns, Arg: "N",
			Doc: "Connections in all, and never more than the limit of open files leaves.\n" +
				"That limit (LimitNOFILE=) has to do for journal, store and queries, too: the log says at the start how many connections that is."},
		{Key: conf.Int("grpc_max_per_addr", &o.server.GRPCPerAddr, 1, 1<<20), Default: grpc.DefaultMaxPerAddr, Arg: "N",
			Doc: "Connections by gRPC from one address."},
		{Key: conf.Bytes("max_answer", &o.server.MaxAnswer, 1<<20, 1<<50), Default: "16G", Arg: "SIZE",
			Doc: "Bytes of one answer to a search or report from another machine (--server), as it travels; a larger one is cut off, and says so."},
		{Key: conf.Duration("frame_timeout", &l.FrameTimeout, time.Millisecond, 24*time.Hour), Default: listen.DefaultFrameTimeout, Arg: "DURATION",
			Doc: "Time from a record's first byte to its last."},
		{Key: networks("proxy_protocol_from", &o.server.Proxies), Arg: "ADDR|NET[,ADDR|NET]", Example: "127.0.0.1",
			Doc: "Where proxies connect to listen from (stunnel, haproxy): each connection must begin with a PROXY header, version 1 or 2.\n" +
				"The address in it is the sender's, for limits, names and records; without a header the connection is refused.\n" +
				"A header from any other address is refused.\nWho can connect from such an address can claim any: name proxies only.\n" +
				"With a header that names nobody (LOCAL, UNKNOWN) it is the proxy's own connection."},
		{Key: networks("tls_proxy_protocol_from", &o.server.TLSProxies), Arg: "ADDR|NET[,ADDR|NET]", Example: "10.1.0.5",
			Doc: "Where proxies that pass TLS on connect to listen_tls and grpc from: as proxy_protocol_from, with the header in front of TLS.\n" +
				"Names are those of certificates all the same."},
		{Key: stock.Key("use_libwrap"), In: settings.FileOnly, Effect: settings.Fixed,
			Doc: "Without effect: hosts.allow and hosts.deny are not read.\nThe log says so where it is yes."},
		{Key: stock.Key("enable_krb5"), In: settings.FileOnly, Effect: settings.Fixed, Doc: "There is no Kerberos here: yes is an error."},
		{Key: stock.Key("krb5_principal"), In: settings.FileOnly, Effect: settings.Fixed},
		{Key: stock.Key("krb5_key_file"), In: settings.FileOnly, Effect: settings.Fixed, Doc: "Without effect."},
	}}
}

// memory returns the section with the limits on memory.
func (o *options) memory(stock conf.Schema) settings.Section {
	c := &o.server
	return settings.Section{Title: "Limits on memory", Restart: true, List: []settings.Setting{
		{Key: conf.Bytes("max_in_flight", &c.MaxInFlight, minInFlight, 1<<30), Default: remote.DefaultMaxInFlight, Arg: "SIZE",
			Doc: "Bytes of one connection that are received and not stored."},
		{Key: conf.Bytes("max_in_flight_total", &c.MaxTotal, minTotal, 1<<40), Default: intake.DefaultMaxInFlight, Arg: "SIZE",
			Doc: "The same of all connections together."},
		{Key: conf.Bytes("max_open_bytes_per_host", &c.OpenPerHost, minInFlight, 1<<30), Default: head.DefaultOpenBytesHost, Arg: "SIZE",
			Doc: "Memory of one host's events that are not complete yet, as one sender sends them."},
		{Key: conf.Bytes("max_open_bytes", &c.OpenTotal, minInFlight, 1<<40), Default: head.DefaultOpenBytes, Arg: "SIZE",
			Doc: "Memory of all hosts' events that are not complete yet; at most a sixteenth of the disk is taken."},
		{Key: conf.Int("max_open_events_per_host", &c.OpenEvents, 1, 1<<24), Default: head.DefaultOpenEventsHost, Arg: "N",
			Doc: "Events of one host that are not complete yet, as one sender sends them."},
		{Key: conf.Int("max_open_events", &c.OpenEventsIn, 1, 1<<24), Default: head.DefaultOpenEvents, Arg: "N",
			Doc: "Events of all hosts that are not complete yet."},
		{Key: conf.Duration("max_open_age", &c.OpenAge, time.Second, 24*time.Hour), Default: head.DefaultOpenAge, Arg: "DURATION",
			Doc: "How long after its first record an event may get others.\nWhat comes later is an event of its own, with the same time and serial."},
		{Key: stock.Key("end_of_event_timeout"), In: settings.FileOnly, Arg: "SECONDS",
			Doc: "When an event counts as complete without its end."},
		{Key: conf.Int("max_hosts", &c.MaxHosts, 1, 1<<24), Default: 20000, Arg: "N",
			Doc: "Hosts told apart by the name in their records; those of others are stored together.\nSenders whose records have no node= are hosts of their own, as many again."},
		{Key: conf.Int("max_new_names", &c.NewNames, 1, 1<<24), Default: head.DefaultNewNames, Arg: "N",
			Doc: "New names that one address brings a day; records of further ones are stored together.\nThey are found by their node all the same."},
		{Key: conf.Int("metric_hosts", &c.MetricHosts, 1, 1<<24), Default: server.DefaultMetricHosts, Arg: "N",
			Doc: "Hosts with metrics of their own; the others are summed up."},
		{Key: conf.Duration("drain_timeout", &c.DrainTimeout, time.Millisecond, 24*time.Hour), Default: server.DefaultDrainTimeout, Arg: "DURATION",
			Doc: "How long a clean stop waits for senders' last replies."},
	}}
}

// space returns the section about the disk's space.
func (o *options) space(stock conf.Schema) settings.Section {
	return settings.Section{Title: "Space", List: []settings.Setting{
		{Key: conf.Bytes("disk_reserve", &o.server.Space.Reserve, 0, 1<<50), Default: space.DefaultReserve, Arg: "SIZE",
			Doc: "Free space kept for what was accepted, so that it can be put into its partition; 0 for none.\n" +
				"With less, records are refused with DISKFULL.\nAt most an eighth of the disk is kept."},
		{Key: stock.Key("space_left"), In: settings.FileOnly, Arg: "MIB|PERCENT%", Example: "10%",
			Doc: "Free space below which acknowledgements are DISKLOW, and space_left_action is taken."},
		{Key: stock.Key("admin_space_left"), In: settings.FileOnly, Arg: "MIB|PERCENT%", Example: "5%",
			Doc: "The second such mark, which must be lower."},
		{Key: stock.Key("space_left_action"), In: settings.FileOnly, Arg: "ACTION"},
		{Key: stock.Key("admin_space_left_action"), In: settings.FileOnly, Arg: "ACTION",
			Doc: "What is done then: once, until it was over for a minute.\nsuspend lasts until SIGUSR2, rotate drops the oldest sealed days, single and halt need --allow-halt."},
		{Key: stock.Key("disk_full_action"), In: settings.FileOnly, Arg: "ACTION",
			Doc: "Likewise, when the reserve is reached or a write finds no room."},
		{Key: stock.Key("disk_error_action"), In: settings.FileOnly, Arg: "ACTION",
			Doc: "Likewise, when a write fails for another reason."},
		{Key: stock.Key("action_mail_acct"), In: settings.FileOnly, Restart: true, Arg: "ADDRESS",
			Doc: "Who gets the mail of email, through /usr/sbin/sendmail."},
		{Key: stock.Key("verify_email"), In: settings.FileOnly, Effect: settings.Idle, Doc: "Without effect here."},
		{Key: conf.YesNo("allow_halt", &o.server.Action.AllowHalt), In: settings.FlagOnly,
			Doc: "Let the actions single and halt end all work on this machine."},
	}}
}

// hostKeys returns the section of keys that only a host's daemon acts on, the forwarder's own
// included.
func (o *options) hostKeys(stock conf.Schema) settings.Section {
	section := settings.Section{Title: "Keys of a host",
		Doc: "These are taken, so that a stock file can be used, and have no effect on a collector; the log names those that are set."}
	for _, name := range []string{
		"local_events", "write_logs", "log_file", "log_group", "log_format", "num_logs", "max_log_file", "max_log_file_action",
		"priority_boost", "report_interval", "dispatcher", "disp_qos",
	} {
		section.List = append(section.List, settings.Setting{Key: stock.Key(name), In: settings.FileOnly, Effect: settings.Idle})
	}
	for _, k := range o.auditd.OwnHostKeys() {
		section.List = append(section.List, settings.Setting{Key: k, In: settings.FileOnly, Effect: settings.Idle})
	}
	section.List[len(section.List)-1].Doc = "The daemon of a host has them, so that one file can serve both: forwarder.conf(5)."
	return section
}

// retain is the limits of classes of events, a line each.
func retain(c *server.Config) settings.Setting {
	rules := &c.Retention.Rules
	key := conf.Key{Name: "retain", Words: -1, Each: true, Set: rules.Add, Get: func() string {
		lines := make([]string, len(*rules))
		for i, r := range *rules {
			lines[i] = r.String()
		}
		return strings.Join(lines, "; ")
	}}
	return settings.Setting{Key: key, In: settings.FileOnly, Arg: "CLASS: LIMITS", Example: "web*: 400d, 50G",
		Doc: "Another time for some events, or a size of their own, a line for each class: HOSTS: 400d, HOSTS: 50G, key KEY: 7d, or both limits with a comma between them; * stands for any text, ? for a byte.\n" +
			"An event is of the first class that it belongs to, by its host or by a key; all others are kept as max_days says.\n" +
			"Compaction divides days into classes, so compact must be yes, and what was not divided by the lines that stand there now is kept for the longest time of all.\n" +
			"Where the events are in a cluster, what comes is divided as it is stored there, by the lines that stand there then, and compact does not matter.\n" +
			"Under max_bytes, and where the disk needs room, what would be dropped first anyway goes first.\n" +
			"Each class costs compaction another reading of a day, and a batch that goes to a cluster two inserts of its own: 30 ms, or 100 ms with three replicas."}
}

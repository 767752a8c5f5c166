package cli

import (
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

// The stock files' keys are checked as pkg/conf has them; the tables say what each does
// here. The lists in forwarder.conf(5) are made from them.

// inFile is a setting of a file that has no flags.
func inFile(k conf.Key, arg, doc string) settings.Setting {
	return settings.Setting{Key: k, In: settings.FileOnly, Arg: arg, Doc: doc}
}

// fixed is a key with one value, or without any effect. A doc of "" leaves it to the next
// key to say so.
func fixed(k conf.Key, arg, doc string) settings.Setting {
	return settings.Setting{Key: k, In: settings.FileOnly, Effect: settings.Fixed, Arg: arg, Doc: doc}
}

// unless has another default told than the one stored: what the forwarder takes where a
// file has no value.
func unless(s settings.Setting, unset string) settings.Setting {
	s.Unset = unset
	return s
}

// auditdTable is auditd.conf's keys, stock's and ours for a host, bound to a.
func auditdTable(a *conf.Auditd) settings.Table {
	stock, ours := a.Schema().Key, a.OwnHostKeys().Key
	return settings.Table{
		{Title: "The local log", List: []settings.Setting{
			fixed(stock("local_events"), "yes", "no is an error: nothing would be left to do."),
			inFile(stock("write_logs"), "", "Whether there is a local log."),
			inFile(stock("log_file"), "FILE", "Its folder is made when it is not there."),
			inFile(stock("log_group"), "GROUP", "Who may read it.\n"+
				"A log folder that is there already and closed to others (0700) is given to the group, too, with mode 0750, and rotated logs with 0440."),
			inFile(stock("log_format"), "FORMAT", "enriched adds what numbers mean; nolog is write_logs = no, and deprecated."),
			inFile(stock("flush"), "MODE", "When what is written is synced."),
			unless(inFile(stock("freq"), "RECORDS", "Records between syncs of the incremental modes; 0 counts as 50."), "50"),
			inFile(stock("num_logs"), "N", "How many files rotation keeps."),
			inFile(stock("max_log_file"), "MIB", "When max_log_file_action is taken."),
			inFile(stock("max_log_file_action"), "ACTION", "What is done with a log of that size."),
			inFile(ours("log_compress"), "METHOD", "Ours.\n"+
				"Rotated logs are compressed in the background, to names that end in .zst; our search and report read them, the stock tools do not."),
			inFile(ours("rotated_names"), "KIND", "Ours.\n"+
				"With dated, a rotated log is named by the time (UTC) of its rotation, such as audit.log.2026-11-22T10-00-00, instead of being renumbered."),
		}},
		{Title: "Names", List: []settings.Setting{
			inFile(stock("name_format"), "FORMAT", "What node= is made of; --node goes before it."),
			inFile(stock("name"), "NAME", "The name with user."),
		}},
		{Title: "Space", List: []settings.Setting{
			inFile(stock("space_left"), "MIB|PERCENT%", ""),
			inFile(stock("admin_space_left"), "MIB|PERCENT%", "The second must be lower."),
			inFile(stock("space_left_action"), "ACTION", ""),
			inFile(stock("admin_space_left_action"), "ACTION", "What is done below them; single and halt need --allow-halt, and a program gets no arguments."),
			inFile(stock("disk_full_action"), "ACTION", "Likewise, when the disk is full."),
			inFile(stock("disk_error_action"), "ACTION", "Likewise, when a write fails."),
			inFile(stock("action_mail_acct"), "ADDRESS", "Who gets the mail."),
			inFile(stock("verify_email"), "", "Whether its domain is looked up."),
		}},
		{Title: "Plugins, and others", List: []settings.Setting{
			inFile(stock("plugin_dir"), "FOLDER", "An absolute path."),
			inFile(stock("q_depth"), "N", "Records that may wait for one plugin: each has a queue of its own."),
			inFile(stock("overflow_action"), "ACTION", "What is done when they are too many; suspend suspends that plugin only.\n"+
				"With halt or single, and with failure mode 2 of auditctl, the kernel is not read while the forwarder's own queue is full, so that its backlog and failure mode decide."),
			inFile(ours("queue_full_action"), "ACTION", "Ours.\n"+
				"While the forwarder's own queue between the kernel and the disk is full, wait leaves records to the kernel: "+
				"audited programs wait behind its backlog, and its failure mode decides what becomes of records that find no room there "+
				"(the kernel also drops a daemon that does not read for half a second; we register again once there is room).\n"+
				"With drop, the kernel is read on, and what finds no room is dropped and counted: no program waits, and failure mode 2 has no effect here.\n"+
				"With auto, it waits in failure mode 2 and with an overflow_action of single or halt, and drops otherwise.\nSIGHUP has it read again."),
			inFile(stock("max_restarts"), "N", "How often a plugin is started again; counted anew after an hour of running."),
			inFile(stock("priority_boost"), "N", "Of the daemon's priority, with the kernel source."),
			inFile(stock("end_of_event_timeout"), "SECONDS", "For search and report."),
			inFile(stock("report_interval"), "TIME", "Of audit 4: how often the state report is written; a number of seconds, or one with m, h, d or M."),
		}},
		{Title: "Of a server", Doc: "The collector is the server: see collector.conf(5).\ntcp_listen_port and distribute_network = yes are errors here, the others have no effect.", List: []settings.Setting{
			fixed(stock("tcp_listen_port"), "PORT", ""), fixed(stock("tcp_listen_queue"), "N", ""), fixed(stock("tcp_max_per_addr"), "N", ""),
			fixed(stock("tcp_client_ports"), "PORTS", ""), fixed(stock("tcp_client_max_idle"), "SECONDS", ""), fixed(stock("use_libwrap"), "", ""),
			fixed(stock("distribute_network"), "no", "As above."),
			fixed(stock("transport"), "", "Of a server's port, without effect."),
			fixed(stock("enable_krb5"), "", "There is no Kerberos here: yes is an error."),
			fixed(stock("krb5_principal"), "", ""), fixed(stock("krb5_key_file"), "", ""),
			fixed(stock("tls_auth"), "", ""), fixed(stock("tls_crypto_profile"), "", ""), fixed(stock("tls_psk_file"), "", ""), fixed(stock("tls_psk_identity"), "", ""),
			fixed(stock("tls_cipher_suites"), "", ""), fixed(stock("tls_key_exchange"), "", ""), fixed(stock("tls_require_pqc"), "", ""), fixed(stock("tls_allowed_clients"), "", ""),
			fixed(stock("dispatcher"), "", ""), fixed(stock("disp_qos"), "", "Without effect, which the log says."),
		}},
	}
}

// remoteTable is audisp-remote.conf's keys, bound to r.
func remoteTable(r *conf.Remote) settings.Table {
	stock := r.Schema().Key
	return settings.Table{{List: []settings.Setting{
		inFile(stock("remote_server"), "HOST[:PORT][,...]", "Several are tried in order."),
		inFile(stock("port"), "PORT", "Of servers without one."),
		unless(inFile(stock("local_port"), "PORT|any", "To connect from."), "any"),
		inFile(stock("transport"), "TRANSPORT", "tcp, or tls: TLS 1.3 with pre-shared keys, as audit 4.2 has it; --transport goes before it."),
		inFile(stock("tls_psk_file"), "FILE", "This host's key, one line of 64 hexadecimal digits or more, mode 0400, root's."),
		inFile(stock("tls_psk_identity"), "NAME", "The name that the server knows the key by."),
		inFile(stock("tls_crypto_profile"), "PROFILE", "compatible offers X25519MLKEM768, then X25519; pqc key exchanges with ML-KEM only."),
		inFile(stock("tls_cipher_suites"), "NAME[:NAME]", "Cipher suites, instead of the profile's."),
		inFile(stock("tls_key_exchange"), "NAME[:NAME]", "Key exchanges, instead of the profile's."),
		inFile(stock("tls_require_pqc"), "yes|no", "The same as the profile pqc."),
		inFile(stock("tls_auth"), "psk", "There is no other; certificates are --tls-cert's."),
		fixed(stock("mode"), "", "Both ship at once from the durable spool."),
		fixed(stock("queue_file"), "FILE", "Without effect: see --spool."),
		fixed(stock("queue_depth"), "N", "Without effect: see --spool-size."),
		inFile(stock("format"), "FORMAT", "ascii is never acknowledged."),
		unless(inFile(stock("network_retry_time"), "SECONDS", "Before it connects again."), "100 ms, and twice as long each time, up to "+ship.DefaultBackoffMax.String()),
		inFile(stock("max_tries_per_record"), "N", "Before network_failure_action is taken."),
		inFile(stock("max_time_per_record"), "SECONDS", "Likewise; where it is set, a reply may take as long."),
		inFile(stock("heartbeat_timeout"), "SECONDS", "How often a silent connection is tried; 0 for never."),
		inFile(stock("network_failure_action"), "ACTION", ""), inFile(stock("disk_low_action"), "ACTION", ""),
		inFile(stock("disk_full_action"), "ACTION", ""), inFile(stock("disk_error_action"), "ACTION", ""),
		inFile(stock("generic_error_action"), "ACTION", ""), inFile(stock("generic_warning_action"), "ACTION", ""),
		inFile(stock("queue_error_action"), "ACTION", "single and halt need --allow-halt.\nRecords are kept in the spool whatever is done."),
		inFile(stock("remote_ending_action"), "ACTION", "Likewise, when the server stops."),
		inFile(stock("overflow_action"), "ACTION", "When the spool is full."),
		inFile(stock("startup_failure_action"), "ACTION", "When no server can be reached at the start."),
		fixed(stock("enable_krb5"), "", "There is no Kerberos here: yes is an error."),
		fixed(stock("krb5_principal"), "", ""), fixed(stock("krb5_client_name"), "", ""), fixed(stock("krb5_key_file"), "", ""),
	}}}
}

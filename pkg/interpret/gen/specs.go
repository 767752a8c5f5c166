package main

// What is left out and renamed makes the tables those of audit 3.0.9: the
// stock tool's answer is the reference, and a name it does not know would be
// a difference in every record that has it.

const (
	sock   = "bits/socket.h"
	fcntl  = "asm-generic/fcntl.h"
	mman   = "asm-generic/mman-common.h"
	max309 = 283 // SOL_XDP
)

var tables = []table{
	{
		name: "openFlags", headers: []string{fcntl}, match: "(__)?O_.*|FASYNC",
		skip:   "O_ACCMODE|O_RDONLY|O_LARGEFILE|O_SYNC|O_TMPFILE|O_TMPFILE_MASK|O_NDELAY",
		rename: map[string]string{"FASYNC": "O_ASYNC"},
	},
	{name: "accessModes", headers: []string{"unistd.h"}, match: "[RWX]_OK"},
	{name: "seekWhence", headers: []string{"linux/fs.h"}, match: "SEEK_.*", skip: "SEEK_MAX"},
	{name: "mmapProt", headers: []string{mman}, match: "PROT_.*", skip: "PROT_NONE|PROT_GROWS.*"},
	{
		name: "mmapFlags", headers: []string{mman, "asm-generic/mman.h", "linux/mman.h", "asm/mman.h"}, match: "MAP_.*",
		skip: "MAP_FILE|MAP_TYPE|MAP_HUGE_.*|MAP_SHARED_VALIDATE",
	},
	{
		name: "signals", headers: []string{"asm/signal.h"}, match: "SIG[A-Z0-9]+",
		skip:  "SIG(RTMIN|RTMAX|STKSZ|POLL|LOST|UNUSED|_.*)",
		extra: map[string]uint64{"SIG0": 0}, max: 31,
	},
	{
		name: "families", headers: []string{sock}, match: "PF_[A-Z0-9]+",
		skip: "PF_(UNSPEC|UNIX|FILE|MAX|ROUTE|IB|MPLS|MCTP)", trim: "PF_", lower: true,
		extra: map[string]uint64{"decnet": 12},
	},
	{name: "socketTypes", headers: []string{"bits/socket_type.h"}, match: "SOCK_[A-Z]+", max: 10},
	{
		name: "messageFlags", headers: []string{sock}, match: "MSG_[A-Z_]+", skip: "MSG_(TRYHARD|ZEROCOPY)",
		extra: map[string]uint64{"MSG_SENDPAGE_NOTLAST": 0x20000, "MSG_BATCH": 0x40000, "MSG_CMSG_COMPAT": 0x80000000},
	},
	{
		// Levels below 256 are protocols, by /etc/protocols.
		name: "socketLevels", headers: []string{sock, "netinet/udp.h", "netinet/tcp.h"}, match: "SOL_[A-Z0-9]+", max: max309,
		skip: "SOL_X25",
		extra: map[string]uint64{
			"SOL_SOCKET": 1, "SOL_IPX": 256, "SOL_AX25": 257, "SOL_ATALK": 258, "SOL_NETROM": 259, "SOL_ROSE": 260,
			"SOL_IP": 0, "SOL_IPV6": 41, "SOL_SCTP": 132, "SOL_UDPLITE": 136,
		},
	},
	{
		name: "ipOptions", headers: []string{"linux/in.h"},
		match: "IP_.*|MCAST_.*",
		skip:  "IP_(PMTUDISC_.*|DEFAULT_.*|RECVRETOPTS|RECVERR_RFC4884|LOCAL_PORT_RANGE|PROTOCOL)|MCAST_(EX|IN)CLUDE",
		extra: map[string]uint64{"IPT_SO_SET_REPLACE": 64, "IPT_SO_SET_ADD_COUNTERS": 65, "IPT_SO_GET_REVISION_TARGET": 66},
	},
	{
		name: "socketOptions", headers: []string{"asm-generic/socket.h"}, match: "SO_.*|SCM_.*", max: 68,
		rename: map[string]string{
			"SO_TIMESTAMP_OLD": "SO_TIMESTAMP", "SO_TIMESTAMPNS_OLD": "SO_TIMESTAMPNS", "SO_TIMESTAMPING_OLD": "SO_TIMESTAMPING",
			"SO_RCVTIMEO_OLD": "SO_RCVTIMEO", "SO_SNDTIMEO_OLD": "SO_SNDTIMEO",
		},
		// powerpc's numbers for six of them are printed on every architecture.
		extra: map[string]uint64{
			"SO_RCVLOWAT": 116, "SO_SNDLOWAT": 117, "SO_RCVTIMEO": 118, "SO_SNDTIMEO": 119, "SO_PASSCRED": 120, "SO_PEERCRED": 121,
		},
	},
	{
		name: "tcpOptions", headers: []string{"linux/tcp.h"}, match: "TCP_[A-Z0-9_]+", max: 37,
		skip: "TCP_(MSS_.*|NO_QUEUE|RECV_QUEUE|SEND_QUEUE|QUEUES_NR|NLA_.*|CA_.*|MD5SIG_.*LEN|MD5SIG_FLAG_.*|REPAIR_O.*|" +
			"ESTABLISHED|SYN_.*|FIN_WAIT.*|TIME_WAIT|CLOSE.*|LAST_ACK|LISTEN|NEW_SYN_RECV|MAX_STATES|" +
			"FASTOPEN_CLIENT_FAIL|FLAG_.*|DATA_OFFSET|RESERVED_BITS|RECEIVE_.*)",
		extra: map[string]uint64{"TCP_COOKIE_TRANSACTIONS": 15, "TCP_REPAIR_OPTIONS": 22},
	},
	{name: "udpOptions", headers: []string{"linux/udp.h"}, match: "UDP_(CORK|ENCAP)"},
	{
		name: "ipv6Options", headers: []string{"linux/in6.h", "linux/in.h"},
		match: "IPV6_.*|MCAST_.*", max: 80,
		skip: "IPV6_(PMTUDISC_.*|PRIORITY_.*|PREFER_.*|FL_.*|TLV_.*|RECVERR_RFC4884|FLOWINFO_(FLOWLABEL|PRIORITY))|MCAST_(EX|IN)CLUDE",
		extra: map[string]uint64{
			"IP6T_SO_SET_REPLACE": 64, "IP6T_SO_SET_ADD_COUNTERS": 65, "IP6T_SO_GET_REVISION_MATCH": 68,
			"IP6T_SO_GET_REVISION_TARGET": 69, "IP6T_SO_ORIGINAL_DST": 80, "IPV6_USE_MIN_MTU": 63,
		},
	},
	{
		name: "packetOptions", headers: []string{"linux/if_packet.h"}, match: "PACKET_[A-Z_]+", max: 23,
		skip: "PACKET_(HOST|BROADCAST|MULTICAST|OTHERHOST|OUTGOING|LOOPBACK|USER|KERNEL|FASTROUTE|FANOUT_(HASH|LB|CPU|ROLLOVER|RND|QM|CBPF|EBPF|FLAG_.*)|MR_.*)",
	},
	{
		name: "cloneFlags", headers: []string{"linux/sched.h"}, match: "CLONE_.*", max: 0x80000000,
		skip:  "CLONE_(NEWCGROUP|NEWTIME|PIDFD|CLEAR_SIGHAND|INTO_CGROUP|ARGS_.*)",
		extra: map[string]uint64{"CLONE_STOPPED": 0x2000000},
	},
	{
		name: "fcntlCommands", headers: []string{fcntl, "linux/fcntl.h"}, match: "F_[A-Z0-9_]+", max: 1038,
		skip: "F_(RDLCK|WRLCK|UNLCK|EXLCK|SHLCK|OWNER_.*|OFD_.*|SEAL_.*|LINUX_SPECIFIC_BASE)",
	},
	{name: "rlimits", headers: []string{"asm-generic/resource.h"}, match: "RLIMIT_.*"},
	{
		name: "ptraceRequests", headers: []string{"linux/ptrace.h", "asm/ptrace-abi.h"}, match: "PTRACE_.*", max: 0x420e,
		skip: "PTRACE_(EVENT_.*|O_.*|PEEKSIGINFO_.*|SYSCALL_INFO_.*|OLDSETOPTIONS)",
		rename: map[string]string{
			"PTRACE_PEEKUSR": "PTRACE_PEEKUSER", "PTRACE_POKEUSR": "PTRACE_POKEUSER",
		},
	},
	{name: "personalities", headers: []string{"linux/personality.h"}, match: "PER_(LINUX|BSD|LINUX32|RISCOS|OSF4|HPUX)", max: 255},
	{
		name: "schedulers", headers: []string{"linux/sched.h"}, match: "SCHED_(NORMAL|FIFO|RR|BATCH|IDLE|DEADLINE)",
		rename: map[string]string{"SCHED_NORMAL": "SCHED_OTHER"},
	},
	{
		name: "prctlOptions", headers: []string{"linux/prctl.h"}, match: "PR_.*", max: 56,
		skip: "PR_(UNALIGN_.*|FP_.*|TIMING_.*|ENDIAN_.*|TSC_.*|MCE_KILL_.*|SET_MM_.*|CAP_AMBIENT_.*|SVE_VL.*|SPEC_.*|PAC_AP.*|TAGGED_.*|MTE_.*|SET_PTRACER.*|SYS_DISPATCH_.*|SCHED_CORE.*|SET_VMA.*)",
		// Left out above with the values of PR_MCE_KILL.
		extra: map[string]uint64{"PR_MCE_KILL_GET": 34},
	},
	{
		name: "capabilities", headers: []string{"linux/capability.h"}, match: "CAP_.*", skip: "CAP_LAST_CAP|CAP_(TO|VALID).*",
		trim: "CAP_", lower: true,
	},
	{
		name: "mountFlags", headers: []string{"linux/mount.h"}, match: "MS_.*", skip: "MS_(VERBOSE|NOSYMFOLLOW|RMT_MASK|MGC_.*)",
		rename: map[string]string{"MS_NOREMOTELOCK": "MS_SNAP_STABLE"},
	},
	{
		name: "umountFlags", headers: []string{"sys/mount.h"}, match: "MNT_.*|UMOUNT_.*",
		extra: map[string]uint64{"UMOUNT_UNUSED": 0x80000000},
	},
	{name: "clocks", headers: []string{"linux/time.h"}, match: "CLOCK_.*", max: 6},
	{name: "epollOperations", headers: []string{"linux/eventpoll.h"}, match: "EPOLL_CTL_.*"},
	{
		name: "bpfCommands", headers: []string{"linux/bpf.h"}, match: "BPF_.*", enum: "bpf_cmd", max: 23,
		skip: "BPF_PROG_RUN",
	},
	{name: "socketCalls", headers: []string{"linux/net.h"}, match: "SYS_.*", trim: "SYS_", lower: true},
	{name: "ipcCalls", headers: []string{"linux/ipc.h"}, match: "(SEM|MSG|SHM)[A-Z]+", skip: "SEMCTL_.*", lower: true},
	{name: "shmFlags", headers: []string{"linux/ipc.h", "linux/shm.h"}, match: "IPC_CREAT|IPC_EXCL|SHM_HUGETLB|SHM_NORESERVE"},
	{
		name: "ioctlRequests", headers: []string{"asm-generic/ioctls.h", "linux/kd.h", "linux/cdrom.h", "linux/sockios.h", "asm-generic/sockios.h"},
		match: "TCGETS|TCSETS[WF]?|TCSBRK|TCFLSH|TIOC(SCTTY|GPGRP|SPGRP|GWINSZ|SWINSZ|INQ|NOTTY|GPTN|SPTLCK)|FIONREAD|FIONBIO|KD[GS]ETMODE|" +
			"CDROM(EJECT|EJECT_SW|_GET_UPC|SEEK)|FIO[SG]ETOWN|SIOCG(IFNAME|IFHWADDR)|SIOCBRADDIF",
		rename: map[string]string{"FIONREAD": "TIOCINQ"},
		extra:  map[string]uint64{"SIOCGIFINDEX": 0x8933, "TIOCSPTLCK": 0x80045431},
	},
	{name: "resolveFlags", headers: []string{"linux/openat2.h"}, match: "RESOLVE_.*"},
	{
		name: "icmpTypes", headers: []string{"linux/icmp.h"}, match: "ICMP_[A-Z_]+",
		skip: "ICMP_(NET|HOST|PROT|PORT|FRAG|SR|PKT|PREC|REDIR_|EXC|EXT|INFO_LEN|FILTER|UNREACH_|AFI_).*", max: 18,
		rename: map[string]string{
			"ICMP_ECHOREPLY": "echo-reply", "ICMP_DEST_UNREACH": "destination-unreachable", "ICMP_SOURCE_QUENCH": "source-quench",
			"ICMP_REDIRECT": "redirect", "ICMP_ECHO": "echo", "ICMP_TIME_EXCEEDED": "time-exceeded",
			"ICMP_PARAMETERPROB": "parameter-problem", "ICMP_TIMESTAMP": "timestamp-request", "ICMP_TIMESTAMPREPLY": "timestamp-reply",
			"ICMP_INFO_REQUEST": "info-request", "ICMP_INFO_REPLY": "info-reply", "ICMP_ADDRESS": "address-mask-request",
			"ICMP_ADDRESSREPLY": "address-mask-reply",
		},
	},
}

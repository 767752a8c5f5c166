package metrics

// JournalSample holds the numbers that the journal keeps itself.
type JournalSample struct {
	Duplicates  uint64  `metric:"duplicates_total" help:"Records sent again that were stored already, dropped."`
	Commits     uint64  `metric:"journal_commits_total" help:"Group commits of the journal."`
	Syncs       uint64  `metric:"journal_syncs_total" help:"Syncs of the journal."`
	QueueBytes  int64   `metric:"journal_queue_bytes" help:"Bytes submitted to the journal that the head has not taken."`
	DiskBytes   int64   `metric:"journal_disk_bytes" help:"Size of the journal on disk."`
	Carried     uint64  `metric:"journal_carried_records_total" help:"Records of open events written again, so that the journal could be trimmed."`
	Forgotten   uint64  `metric:"resend_forgotten_total" help:"Senders' numberings and last records forgotten for want of memory: what these send again is stored twice."`
	ResendBytes int64   `metric:"resend_memory_bytes" help:"Memory of resend detection, at most 128 MiB."`
	Hanging     float64 `metric:"journal_write_waits_seconds" help:"For how long the write to the journal that is under way has not returned; 0 while none is. Seconds mean that the disk hangs."`
	LimitBytes  int64   `metric:"journal_limit_bytes" help:"Size beyond which the journal has outgrown what it has to hold: a fault of the store, or of the disk."`
	Outgrown    bool    `metric:"journal_outgrown" help:"1 while the journal is larger than that."`
}

// ReadJournal registers the metrics of JournalSample. Each scrape calls sample.
func ReadJournal(r *Registry, sample func() JournalSample) { read(r, collector, sample) }

// HeadSample holds the numbers of the events in memory.
type HeadSample struct {
	Events         uint64            `metric:"events_total" help:"Events put together since the start, replayed ones included."`
	Unparsable     uint64            `metric:"unparsable_records_total" help:"Records stored that have no readable header."`
	StoreFailures  uint64            `metric:"store_failures_total" help:"Attempts to store events that failed; the events stay in journal and memory."`
	Storing        float64           `metric:"store_write_waits_seconds" help:"For how long the storing of events that is under way has not returned; 0 while none is. Minutes mean that the disk hangs."`
	Evicted        map[string]uint64 `metric:"evicted_events_total" label:"reason" help:"Events stored before they were complete: they were open for too long, or too much was open; by the key of the limit."`
	SearchesBehind uint64            `metric:"searches_behind_total" help:"Searches answered without some records acknowledged shortly before: the store took no events."`
	Mixed          uint64            `metric:"mixed_records_total" help:"Records of hosts beyond max_hosts and max_new_names, stored together."`
	NamesRefused   uint64            `metric:"names_refused_total" help:"Times that a record's new name was not added to the hosts: its sender had added max_new_names that day."`
	Mismatched     uint64            `metric:"mismatched_records_total" help:"Records that claim, by node=, to be another host's than the one that they are kept under."`
	WitnessAlarms  map[string]uint64 `metric:"witness_alarms_total" label:"op" help:"Records of hosts that say that a collector's log was changed, put back, or signed otherwise (DAEMON_ERR op=seal-...), by op; any collector's, this one's or another's."`
	AddressChanges uint64            `metric:"address_changes_total" help:"Times that a host's name came from another address than before."`
	FarFuture      uint64            `metric:"future_events_total" help:"Events with a time more than a day beyond their receipt: they are stored, and move no clock."`
	OpenBytes      int               `metric:"open_bytes" help:"Memory of events that are not complete yet."`
	OpenEvents     int               `metric:"open_events" help:"Events that are not complete yet."`
	MemoryEvents   int               `metric:"memory_events" help:"Complete events in memory, not in the store yet."`
	MemoryBytes    int64             `metric:"memory_bytes" help:"Memory of complete events that are not in the store yet."`
	Hosts          int               `metric:"hosts" help:"Hosts known."`
}

// ReadHead registers the metrics of HeadSample. Each scrape calls sample.
func ReadHead(r *Registry, sample func() HeadSample) { read(r, collector, sample) }

// SpaceSample holds the numbers of disk space.
type SpaceSample struct {
	Free      uint64            `metric:"disk_free_bytes" help:"Free space on the disk of the store."`
	Size      uint64            `metric:"disk_size_bytes" help:"Size of the disk of the store."`
	Reserve   uint64            `metric:"disk_reserve_bytes" help:"Free space below which records are refused (disk_reserve)."`
	Low       bool              `metric:"space_low" help:"1 while less than space_left is free: acknowledgements are DISKLOW."`
	VeryLow   bool              `metric:"space_very_low" help:"1 while less than admin_space_left is free."`
	Full      bool              `metric:"disk_full" help:"1 while records are refused for want of space."`
	Failing   bool              `metric:"disk_failing" help:"1 while writes to the disk fail."`
	Suspended bool              `metric:"suspended" help:"1 while storing is suspended by an action."`
	Actions   map[string]uint64 `metric:"space_actions_total" label:"key" help:"Actions done about the disk, by the key that asks for them."`
}

// ReadSpace registers the metrics of SpaceSample. Each scrape calls sample.
func ReadSpace(r *Registry, sample func() SpaceSample) { read(r, collector, sample) }

// StoreSample holds the numbers of the stored events.
type StoreSample struct {
	Missing      int    `metric:"store_missing" help:"Parts of the store that answers lack: set aside as damaged or as another store's, or missing. /readyz and collector verify name them."`
	Waiting      int    `metric:"store_waiting_batches" help:"Batches on the disk that a cluster has not taken yet; 0 where the store is in its folder."`
	WaitingBytes uint64 `metric:"store_waiting_bytes" help:"Raw text of the events that a cluster has not taken yet."`
	Refused      bool   `metric:"store_refused" help:"1 while a cluster takes no events: they wait on the disk, up to its limits."`
	Days         int    `metric:"store_dates" help:"Days of which events are stored."`
	Partitions   int    `metric:"store_partitions" help:"Files of stored events: one a day, and one more for each SIGUSR1."`
	DiskBytes    uint64 `metric:"store_disk_bytes" help:"Size of the partitions on disk, index included."`
	Events       uint64 `metric:"store_events" help:"Events stored."`
	IndexBytes   uint64 `metric:"store_index_bytes" help:"Size of the index in the partitions."`
	RawBytes     uint64 `metric:"store_raw_bytes" help:"Raw text of the events stored."`
	Holds        int    `metric:"holds" help:"Holds on days and hosts, whose partitions retention does not drop."`
	Held         int    `metric:"held_partitions" help:"Partitions on hold."`
	HeldBytes    uint64 `metric:"held_bytes" help:"Size on disk of the partitions on hold."`
	HoldsBroken  bool   `metric:"holds_broken" help:"1 while the list of holds can't be believed: then everything is on hold."`
	ClockDoubted bool   `metric:"clock_doubted" help:"1 while max_days does not count from the clock's day: that is far beyond the last stored one, or more than a day from the cluster's."`
}

// SealSample holds the numbers of the store's log.
type SealSample struct {
	Size       int64   `metric:"seal_leaves" help:"Leaves of the store's log: a stored batch or dropped partition each."`
	SignedSize int64   `metric:"seal_signed_leaves" help:"Leaves that the newest checkpoint has signed."`
	Last       float64 `metric:"seal_checkpoint_timestamp_seconds" help:"Time of the newest checkpoint, 0 without one."`
	Signed     uint64  `metric:"seal_checkpoints_total" help:"Checkpoints signed since the start."`
	Errors     uint64  `metric:"seal_errors_total" help:"Attempts to sign a checkpoint that failed."`
	Stopped    bool    `metric:"seal_stopped" help:"1 while nothing is signed, because the log does not go on from what was signed before: see collector-seal(8)."`
}

// ReadSeal registers the metrics of SealSample. Each scrape calls sample.
func ReadSeal(r *Registry, sample func() SealSample) { read(r, collector, sample) }

// ReadStore registers the metrics of StoreSample. Each scrape calls sample.
func ReadStore(r *Registry, sample func() StoreSample) { read(r, collector, sample) }

// CompactSample holds the numbers of compaction.
type CompactSample struct {
	Done      uint64  `metric:"compactions_total" help:"Compactions of a day's partitions since the start."`
	Failed    uint64  `metric:"compaction_failures_total" help:"Compactions that failed; what was to be compacted stays as it is, and is tried again after an hour, and after twice as long each time that it fails again."`
	RawBytes  uint64  `metric:"compacted_raw_bytes_total" help:"Raw text of the events that were compacted."`
	Saved     int64   `metric:"compaction_saved_bytes" help:"How much less the disk has to hold by compactions since the start."`
	Seconds   float64 `metric:"compaction_seconds_total" help:"Time that compactions took."`
	Waiting   int     `metric:"compaction_waiting_partitions" help:"Partitions that wait for compaction."`
	Postponed int     `metric:"compaction_postponed" help:"Days, or parts of the one that runs, that could not be compacted and wait to be tried again."`
	Bytes     uint64  `metric:"compaction_waiting_bytes" help:"Size of the events of partitions that wait for compaction, as they are stored."`
}

// ReadCompact registers the metrics of CompactSample. Each scrape calls sample.
func ReadCompact(r *Registry, sample func() CompactSample) { read(r, collector, sample) }

// AlertSample holds the numbers of one condition of alerts.
type AlertSample struct {
	Condition string         `label:"condition"`
	Firing    map[string]int `metric:"alerts" label:"severity" help:"Alerts that fire now, by condition and severity."`
}

// ReadAlerts registers the conditions of alerts.
func ReadAlerts(r *Registry, each func(yield func(AlertSample))) { readEach(r, collector, each) }

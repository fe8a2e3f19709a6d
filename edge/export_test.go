package edge

// OpenWithClock is Open on a machine whose clock says what the test wants.
var OpenWithClock = open //nolint:gochecknoglobals // for tests alone

// ReserveFor is how much of a log is for alarms alone.
var ReserveFor = reserveFor //nolint:gochecknoglobals // for tests alone

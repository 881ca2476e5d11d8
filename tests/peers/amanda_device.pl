# Writes plain files as dumps to a cartridge, or reads one back, by Amanda's own device library and its transfers.
#
#     amanda-device write DEVICE LABEL FILE...     one tape file each, behind the label
#     amanda-device read DEVICE NUMBER FILE        prints the header's first line
#
# In a directory with an amanda.conf, as "amtape ." and its like.
use strict;
use warnings;
use Amanda::Config qw( :init );
use Amanda::Device qw( :constants );
use Amanda::Header;
use Amanda::MainLoop;
use Amanda::Util qw( :constants );
use Amanda::Xfer qw( :constants );

my $DATE = "20240101000000";

sub transfer {
    my ($source, $destination) = @_;
    my $transfer = Amanda::Xfer->new([$source, $destination]);
    $transfer->start(sub {
        my ($element, $message) = @_;
        die $message->{'message'} if $message->{'type'} == $XMSG_ERROR;
        Amanda::MainLoop::quit() if $message->{'type'} == $XMSG_DONE;
    });
    Amanda::MainLoop::run();
}

my ($way, $name, $what, @paths) = @ARGV;
Amanda::Util::setup_application("amanda_device", "server", $CONTEXT_CMDLINE, "amanda", "amanda");
config_init($CONFIG_INIT_EXPLICIT_NAME, ".");
my $device = Amanda::Device->new($name);
die $device->error_or_status() if $device->status() != $DEVICE_STATUS_SUCCESS;
$device->configure(1);
if ($way eq "write") {
    $device->start($ACCESS_WRITE, $what, $DATE) or die $device->error_or_status();
    for my $path (@paths) {
        open(my $file, "<", $path) or die "$path: $!";
        my $header = Amanda::Header->new();
        $header->{'type'} = $Amanda::Header::F_DUMPFILE;
        $header->{'datestamp'} = $DATE;
        $header->{'name'} = "files1";
        $header->{'disk'} = $path;
        $header->{'dumplevel'} = 0;
        $header->{'program'} = "/bin/tar";
        $header->{'compressed'} = 0;
        $header->{'comp_suffix'} = "N";
        $device->start_file($header) or die $device->error_or_status();
        transfer(Amanda::Xfer::Source::Fd->new(fileno($file)), Amanda::Xfer::Dest::Device->new($device, 0));
    }
} else {
    open(my $file, ">", $paths[0]) or die "$paths[0]: $!";
    $device->start($ACCESS_READ, undef, undef) or die $device->error_or_status();
    my $header = $device->seek_file($what + 0) or die $device->error_or_status();
    print +(split /\n/, $header->to_string(0, 32768))[0], "\n";
    transfer(Amanda::Xfer::Source::Device->new($device), Amanda::Xfer::Dest::Fd->new(fileno($file)));
}
$device->finish() or die $device->error_or_status();

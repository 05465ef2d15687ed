#!/usr/bin/perl
# An SMSC made of Net::SMPP, after its example: one id for all messages.
#
#     perl smpp_smsc.pl OPTIONS     OPTIONS as JSON: port, refuse (a status, as a number) and refusals (how many submits
#                                   get it first); JSON lines on standard output
#
# {"listening": port} first, then {"bind": ...}, {"submit": ...}, {"acknowledged": status}. A child for each connection.
use strict;
use warnings;
use JSON::PP;
use Net::SMPP;
use POSIX qw(strftime);

my %options = (port => 0, refuse => 0, refusals => 0, %{decode_json($ARGV[0] // '{}')});
my $refusals = $options{refusals};
my $json = JSON::PP->new->latin1->canonical;

sub say_line { syswrite STDOUT, $json->encode({@_}) . "\n" }

sub receipt {
    my ($session, $pdu) = @_;
    my $now = strftime('%y%m%d%H%M', gmtime);
    $session->deliver_sm(
        async => 1, esm_class => 4, source_addr => $pdu->{destination_addr}, destination_addr => $pdu->{source_addr},
        source_addr_ton => $pdu->{dest_addr_ton}, source_addr_npi => $pdu->{dest_addr_npi},
        dest_addr_ton => $pdu->{source_addr_ton}, dest_addr_npi => $pdu->{source_addr_npi},
        short_message => "id:123456789 sub:001 dlvrd:001 submit date:$now done date:$now stat:DELIVRD err:000 text:",
    );
}

sub submitted {
    my ($session, $pdu) = @_;
    say_line(submit => {
        source => $pdu->{source_addr}, destination => $pdu->{destination_addr}, coding => $pdu->{data_coding},
        esm_class => $pdu->{esm_class}, registered => $pdu->{registered_delivery}, text => $pdu->{short_message},
    });
    if ($refusals > 0) {
        $refusals--;
        $session->submit_sm_resp(message_id => '', seq => $pdu->{seq}, status => $options{refuse});
        return;
    }
    $session->submit_sm_resp(message_id => '123456789', seq => $pdu->{seq});
    receipt($session, $pdu) if $pdu->{registered_delivery} & 3;
}

sub bound {
    my ($kind) = @_;
    return sub {
        my ($session, $pdu) = @_;
        say_line(bind => {kind => $kind, system_id => $pdu->{system_id}, password => $pdu->{password}});
        my $answer = "bind_${kind}_resp";
        $session->$answer(system_id => 'GSMSGW', seq => $pdu->{seq});
    };
}

my %handlers = (
    0x00000001 => bound('receiver'), 0x00000002 => bound('transmitter'), 0x00000009 => bound('transceiver'),
    0x00000004 => \&submitted,
    0x80000005 => sub { my ($session, $pdu) = @_; say_line(acknowledged => $pdu->{status}) },
    0x00000015 => sub { my ($session, $pdu) = @_; $session->enquire_link_resp(seq => $pdu->{seq}) },
    0x80000015 => sub { },
    0x00000006 => sub { my ($session, $pdu) = @_; $session->unbind_resp(seq => $pdu->{seq}); exit 0 },
);

$SIG{CHLD} = 'IGNORE';
my $server = Net::SMPP->new_listen('127.0.0.1', port => $options{port}, smpp_version => 0x34) or die "listen: $!";
say_line(listening => $server->sockport);
my $session;
while (1) {
    $session = $server->accept or next;
    my $child = fork // die "fork: $!";
    last if $child == 0;
    close $session;
}
close $server;
while (my $pdu = $session->read_pdu) {
    my $handler = $handlers{$pdu->{cmd}};
    $handler ? $handler->($session, $pdu) : say_line(unknown => $pdu->{cmd});
}

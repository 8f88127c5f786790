# ROS 2 Jazzy and torch with CUDA, for a Jetson Orin with JetPack 6 (L4T r36). How to build and run: docs/docker.md.
#
# JetPack 6 itself is Ubuntu 22.04, for which there are no packages of Jazzy. NVIDIA's image for integrated GPUs is 24.04 and
# has a torch built for Orin, which the usual wheels are not. Its tag decides the torch: 25.02 is listed for JetPack 6.2 and
# has a 2.7; NVIDIA's table of PyTorch for Jetson says which fits another JetPack.
ARG PYTORCH=25.02-py3-igpu
FROM nvcr.io/nvidia/pytorch:${PYTORCH}
ARG ROS_APT_SOURCE=1.1.0
ARG USER_ID=1000

SHELL ["/bin/bash", "-c"]
ENV DEBIAN_FRONTEND=noninteractive
RUN curl -fsSL -o /tmp/ros.deb "https://github.com/ros-infrastructure/ros-apt-source/releases/download/\
${ROS_APT_SOURCE}/ros2-apt-source_${ROS_APT_SOURCE}.noble_all.deb" \
    && apt-get update && apt-get install -y /tmp/ros.deb && rm /tmp/ros.deb \
    && apt-get update && apt-get install -y --no-install-recommends \
       python3-venv python3-rosdep python3-colcon-common-extensions ros-jazzy-ros-base ros-jazzy-rmw-cyclonedds-cpp \
    && rosdep init && rm -rf /var/lib/apt/lists/*

# torch is the image's; the venv sees it, as it sees ROS's Python packages. What torch was built with (numpy) the image
# holds fast by a PIP_CONSTRAINT of its own.
WORKDIR /ws
RUN python3 -m venv --system-site-packages venv && touch venv/COLCON_IGNORE

COPY package.xml src/spec_vla_ros/
RUN apt-get update && rosdep update --rosdistro jazzy && rosdep install --from-paths src --ignore-src -y \
    && rm -rf /var/lib/apt/lists/*
COPY . src/spec_vla_ros
RUN . venv/bin/activate && pip install --no-cache-dir -e 'src/spec_vla_ros[model]' \
    && . /opt/ros/jazzy/setup.bash && colcon build --packages-select spec_vla_ros

# As in desktop.Dockerfile; on a Jetson the GPU's devices belong to the group video.
RUN { id ubuntu || useradd --create-home ubuntu; } && usermod --uid "$USER_ID" --append --groups video ubuntu \
    && mkdir /cache && chown ubuntu /cache && ln -s /cache ~ubuntu/.cache
USER ubuntu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENTRYPOINT ["/ws/src/spec_vla_ros/docker/entrypoint.sh"]
CMD ["ros2", "launch", "spec_vla_ros", "act.launch.py", "--show-args"]
